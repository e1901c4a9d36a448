"""One process of a training over many: `python -m benchmarks.hosts_worker --help`.

Claim: it trains each algorithm by `mj.train` on a small problem, in float32 and in float64, over
the devices of all processes, and process 0 writes the meta-parameters.
Repeat: `python -m benchmarks.hosts` starts it.
"""

import inspect
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maml_jax as mj
from benchmarks import script
from maml_jax.batching import hosts
from maml_jax.core.trees import path_name
from maml_jax.registry import find, names

WAYS, SHOTS, QUERIES, FEATURES, HIDDEN = 3, 2, 2, 6, 8
TASKS = 8
OPTIONS = {
    "inner_lr": 0.1,
    "inner_steps": 2,
    "damping": 1.0,
    "context_size": 4,
    "classes": WAYS,
}
"""For the algorithms that take them."""
PRECISIONS = ("float32", "float64")


def network(dtype: Any) -> tuple[Any, Any]:
    """A small smooth network, `(params, apply)`, with the parts that any algorithm asks for."""
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        "body": {
            "kernel": jax.random.normal(keys[0], (FEATURES, HIDDEN), dtype) / 2,
            "bias": jnp.zeros(HIDDEN, dtype),
        },
        "norm": {"scale": jnp.ones(HIDDEN, dtype), "bias": jnp.zeros(HIDDEN, dtype)},
        "head": {
            "kernel": jax.random.normal(keys[1], (HIDDEN, WAYS), dtype) / 2,
            "bias": jnp.zeros(WAYS, dtype),
        },
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
        hidden = hidden * params["norm"]["scale"] + params["norm"]["bias"]
        return hidden @ params["head"]["kernel"] + params["head"]["bias"]

    return params, apply


def tasks(dtype: Any) -> mj.data.TaskSource:
    """Classes are Gaussians around random centres."""

    def sample(_: None, key: jax.Array) -> mj.Episode:
        of_centres, of_support, of_query = jax.random.split(key, 3)
        centres = jax.random.normal(of_centres, (WAYS, FEATURES), dtype)

        def batch(key: jax.Array, per_class: int) -> mj.Batch:
            labels = jnp.repeat(jnp.arange(WAYS), per_class)
            noise = jax.random.normal(key, (WAYS * per_class, FEATURES), dtype)
            return mj.Batch(centres[labels] + noise, labels)

        return mj.Episode(batch(of_support, SHOTS), batch(of_query, QUERIES))

    return mj.data.TaskSource(None, sample)


def learn(algorithm: str, dtype: Any, updates: int) -> dict[str, np.ndarray]:
    """The meta-parameters after `updates` updates, by path.

    Descent with momentum: Adam makes steps of full length of the rounding in a gradient of zero,
    such as that of a bias to which prototypes are indifferent.
    """
    params, apply = network(dtype)
    make = find("algorithms", algorithm)
    taken = inspect.signature(make).parameters
    learner = make(apply, **{name: value for name, value in OPTIONS.items() if name in taken})
    meta, _ = mj.train(
        learner,
        params,
        tasks(dtype),
        updates=updates,
        optimizer=optax.sgd(1e-2, momentum=0.9),
        tasks_per_update=TASKS,
        progress=False,
    )
    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(meta)}


def main() -> int:
    """Train each algorithm in each precision; process 0 writes all of it to OUT, as .npz."""
    parser = script.parser("benchmarks.hosts_worker", __doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--devices", type=int, default=1, help="of this process")
    parser.add_argument("--algorithms", nargs="+", default=names("algorithms"))
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--coordinator", help="and the number of this process, and of all")
    parser.add_argument("--process", type=int)
    parser.add_argument("--processes", type=int)
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.devices)
    if options.coordinator is not None:
        mj.initialize_hosts(options.coordinator, options.process, options.processes)
    found: dict[str, np.ndarray] = {}
    for precision in options.precisions:
        with jax.enable_x64(precision == "float64"):
            for algorithm in options.algorithms:
                learned = learn(algorithm, precision, options.updates)
                found |= {f"{precision} {algorithm} {path}": a for path, a in learned.items()}
    if hosts.is_first():
        np.savez(options.out, **found)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    return 0


if __name__ == "__main__":
    sys.exit(main())
