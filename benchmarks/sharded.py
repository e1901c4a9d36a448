"""A transformer of a billion parameters with 4 inner steps, compiled for a TPU slice: does it fit?

Claim: MAML's whole meta-update of it (exact meta-gradient, Adam) is compiled for a v5p slice on a
machine that has none, its arrays sharded over `fsdp` and its activations computed again, and XLA's
account of the memory that a chip needs is below what a chip has.
Repeat: `pip install libtpu`, then `python -m benchmarks.sharded`.
"""

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import maml_jax as mj
from benchmarks import script
from benchmarks.absent import devices_of
from maml_jax.batching.devices import AXIS
from maml_jax.batching.shards import FSDP, spec_of


def transformer(layers: int, width: int, heads: int, words: int) -> tuple[Any, Any]:
    """`(init, apply)` of a decoder that predicts each next word, its layers in a scan."""

    def init(key: jax.Array) -> Any:
        def normal(number: int, *shape: int) -> jax.Array:
            return jax.random.normal(jax.random.fold_in(key, number), shape) / shape[-2] ** 0.5

        return {
            "words": normal(0, words, width),
            "layers": {
                "attend": normal(1, layers, width, 3 * width),
                "mix": normal(2, layers, width, width),
                "widen": normal(3, layers, width, 4 * width),
                "narrow": normal(4, layers, 4 * width, width),
            },
            "head": normal(5, width, words),
        }

    @jax.checkpoint
    def layer(x: jax.Array, w: Any) -> tuple[jax.Array, None]:
        def normalized(x: jax.Array) -> jax.Array:
            return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)

        examples, length, _ = x.shape
        split = (examples, length, heads, 3 * width // heads)
        q, k, v = jnp.split((normalized(x) @ w["attend"]).reshape(split), 3, -1)
        scores = jnp.einsum("eqhd,ekhd->ehqk", q, k) / (width // heads) ** 0.5
        scores = jnp.where(jnp.tri(length, dtype=bool), scores, -1e9)
        mixed = jnp.einsum("ehqk,ekhd->eqhd", jax.nn.softmax(scores), v)
        x = x + mixed.reshape(x.shape) @ w["mix"]
        return x + jax.nn.gelu(normalized(x) @ w["widen"]) @ w["narrow"], None

    def apply(params: Any, x: jax.Array) -> jax.Array:
        hidden, _ = jax.lax.scan(layer, params["words"][x], params["layers"])
        return hidden @ params["head"]

    return init, apply


def next_word(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """The mean cross-entropy over examples and positions."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


def compile_update(options: Any, mesh: Mesh) -> dict[str, Any]:
    """What XLA says of one meta-update on this mesh."""
    init, apply = transformer(options.layers, options.width, options.width // 128, options.words)
    learner = mj.maml(apply, 1e-2, options.steps, loss=next_word)
    optimizer = optax.adam(1e-4)
    tasks = mesh.shape[AXIS]

    def placed(tree: Any, spec: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec(leaf))
            ),
            tree,
        )

    def update(meta: Any, moments: Any, episodes: mj.Episode) -> Any:
        (loss, _), slope = mj.over_tasks(learner, mesh=mesh)(meta, episodes)
        changes, moments = optimizer.update(slope, moments, meta)
        return loss, optax.apply_updates(meta, changes), moments

    params = jax.eval_shape(init, jax.random.key(0))
    meta = placed(params, lambda leaf: spec_of(leaf.shape, mesh.shape[FSDP]))
    moments = jax.eval_shape(optimizer.init, params)
    moments = placed(moments, lambda leaf: spec_of(leaf.shape, mesh.shape[FSDP]))
    text = jax.ShapeDtypeStruct((tasks, options.examples, options.length), jnp.int32)
    batch = placed(mj.Batch(text, text), lambda leaf: PartitionSpec(AXIS))
    lowered = jax.jit(update, donate_argnums=(0, 1)).lower(meta, moments, mj.Episode(batch, batch))
    start = time.perf_counter()
    compiled = lowered.compile()
    memory: Any = compiled.memory_analysis()
    # Donated arguments are the results' memory.
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
    needed += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "inner_steps": options.steps,
        "mesh": dict(mesh.shape),
        "tokens_of_a_set": options.examples * options.length,
        "arguments_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "needed_bytes": needed,
        "compile_s": time.perf_counter() - start,
    }


def main() -> int:
    """Compile, and say whether it fits."""
    parser = script.measuring_parser("benchmarks.sharded", __doc__)
    parser.add_argument("--for", dest="target", default="tpu-v5p:2x2x2", help="which chips")
    parser.add_argument("--fsdp", type=int, default=4, help="devices that share the arrays")
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--words", type=int, default=32_000)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--examples", type=int, default=4, help="of each set")
    parser.add_argument("--length", type=int, default=512, help="of an example")
    options = parser.parse_args()
    chip, found_devices = devices_of(parser, options.target)
    devices: Any = np.array(found_devices)
    mesh = Mesh(devices.reshape(-1, options.fsdp), (AXIS, FSDP), axis_types=(AxisType.Auto,) * 2)
    found = {"for": options.target, **compile_update(options, mesh)}
    found |= {"hbm_bytes": chip.memory_bytes, "fits": found["needed_bytes"] < chip.memory_bytes}
    print(json.dumps(found, indent=1))
    script.write_record(options.out, "benchmarks.sharded", **found)
    return int(not found["fits"])


if __name__ == "__main__":
    sys.exit(main())
