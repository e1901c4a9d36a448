"""This project with its network in bfloat16; weights and gradients are added up in float32.

What that costs in accuracy is the record's gradient error in float32.
Repeat: `python -m benchmarks --device gpu --peers maml_jax_tf32,maml_jax_bf16,torch_func_tf32`.
"""

from functools import partial

from benchmarks.peers import maml_jax

prepare = partial(maml_jax.prepare, precision="bfloat16")
prepare_training = partial(maml_jax.prepare_training, precision="bfloat16")
