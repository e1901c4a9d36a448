"""This project with its convolutions in the form `taps` of `maml_jax.kernels.forms`.

Repeat: `python -m benchmarks --peers maml_jax_patches,maml_jax_taps,maml_jax_grouped`.
"""

from benchmarks.peers.maml_jax_form import in_form

prepare, prepare_training = in_form("taps")
