"""The copies of the weights that a long inner loop keeps, in the memory of a TPU's host.

Claim: with `step_policy=jax.checkpoint_policies.save_and_offload_only_these_names(…)` of the name
`inner_weights`, XLA's account of a TPU's program has one copy of the weights a step in the host's
memory, and none of them on the chip.
Repeat: `pip install libtpu`, then `python -m benchmarks.offloaded`.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

import maml_jax as mj
from benchmarks import script
from benchmarks.absent import devices_of

WIDTH, EXAMPLES = 2048, 64
POLICIES = {
    "None": None,
    "offload inner_weights": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["inner_weights"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


def error(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> jax.Array:
    """The mean squared error of two dense layers."""
    return jnp.mean((jnp.tanh(batch.x @ weights["first"]) @ weights["second"] - batch.y) ** 2)


def row(device: Any, steps: int, name: str) -> dict[str, Any]:
    """What XLA says of the meta-gradient's program."""
    learner = mj.bilevel(error, error, 0.1, steps, step_policy=POLICIES[name])
    there = SingleDeviceSharding(device)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=there)

    batch = mj.Batch(array(EXAMPLES, WIDTH), array(EXAMPLES, WIDTH))
    weights = {"first": array(WIDTH, WIDTH), "second": array(WIDTH, WIDTH)}
    meta = jax.tree.map(lambda leaf: array(*leaf.shape), jax.eval_shape(learner.init, weights))
    with jax.default_matmul_precision("highest"):  # by default XLA stores them in bfloat16
        lowered = jax.jit(learner.value_and_grad).lower(meta, mj.Episode(batch, batch))
    program = lowered.compile()
    memory: Any = program.memory_analysis()
    return {
        "steps": steps,
        "step_policy": name,
        "on_the_chip_bytes": memory.temp_size_in_bytes,
        "on_the_host_bytes": memory.host_temp_size_in_bytes,
        "weights_bytes": 2 * WIDTH * WIDTH * 4,
    }


def main() -> int:
    """Compile with and without, and print the table."""
    parser = script.measuring_parser("benchmarks.offloaded", __doc__)
    parser.add_argument("--for", dest="target", default="tpu-v5e:2x2", help="which chips")
    parser.add_argument("--steps", type=int, default=50, help="inner steps")
    options = parser.parse_args()
    _, devices = devices_of(parser, options.target)
    rows = [row(devices[0], options.steps, name) for name in POLICIES]
    titles = ["steps", "`step_policy`", "on the chip, MB", "on the host, MB"]
    lines = [
        (
            str(each["steps"]),
            each["step_policy"],
            f"{each['on_the_chip_bytes'] / 1e6:.0f}",
            f"{each['on_the_host_bytes'] / 1e6:.0f}",
        )
        for each in rows
    ]
    print("\n".join(script.markdown(titles, lines, words=2)))
    script.write_record(options.out, "benchmarks.offloaded", **{"for": options.target}, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
