"""Training from a memory-mapped data set against training from memory: time and resident memory.

Claim: a data set of 4 GiB that stays on the disk trains within 10 % of the speed from memory, with
the resident memory of the program and two blocks of tasks.
Repeat: `python -m benchmarks.streaming`. It writes the data set into a temporary folder first.
"""

import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, script
from benchmarks.memory import peak_resident_bytes

SIDE, IMAGES_PER_CLASS = 84, 200


def write(path: Path, gib: float) -> int:
    """Write random colour images of 84×84, 200 a class, as one array; returns the classes."""
    classes = int(gib * 2**30 / (IMAGES_PER_CLASS * SIDE * SIDE * 3))
    shape = (classes * IMAGES_PER_CLASS, SIDE, SIDE, 3)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    rng, one_class = np.random.default_rng(0), (IMAGES_PER_CLASS, *shape[1:])
    for start in range(0, len(images), IMAGES_PER_CLASS):
        images[start : start + IMAGES_PER_CLASS] = rng.integers(0, 256, one_class, np.uint8)
    images.flush()
    return classes


def measure(
    send: Connection, path: Path, classes: int, in_memory: bool, updates: int, rounds: int
) -> None:
    """Seconds of an update, round by round, and resident bytes; it has a process of its own."""
    import jax

    from maml_jax.adapters.flax import from_flax
    from maml_jax.batching import task_mesh, use_all_cores
    from maml_jax.data.labelled import LabelledSet
    from maml_jax.data.pixel_cache import map_pixels
    from maml_jax.training.build import build_learner, build_model
    from maml_jax.training.config import Config
    from maml_jax.training.prefetch import EpisodePrefetcher
    from maml_jax.training.schedule import outer_optimizer
    from maml_jax.training.updates import initial_state, make_updates

    use_all_cores()
    images, mapped = map_pixels(path, (classes * IMAGES_PER_CLASS, SIDE, SIDE, 3))
    data = LabelledSet(
        name="random",
        examples=images,
        counts=np.full(classes, IMAGES_PER_CLASS, np.int32),
        class_names=tuple(map(str, range(classes))),
        splits={"train": np.arange(classes)},
        mapped=mapped,
        sha256="",
        in_memory=2**60 if in_memory else 0,
    )
    config = replace(
        Config(), downsample="maxpool", filters=32, tasks=4, queries=5, updates=10**6, chunk=1
    )
    params, apply = from_flax(build_model(config, data.input_shape, data.outputs(config.ways)))
    learner = build_learner(config, apply, data.loss)
    source = data.tasks("train", ways=5, shots=1, queries=5)
    mesh = task_mesh(config.tasks)
    optimizer = outer_optimizer(config)
    run = make_updates(
        learner,
        source,
        optimizer,
        tasks_per_update=config.tasks,
        updates=config.updates,
        mesh=mesh,
        chunk=config.chunk,
    )
    state = initial_state(learner, params, optimizer, config.seed)
    prefetcher = EpisodePrefetcher(source, config.tasks, state.key, mesh)
    state = jax.device_put(state, prefetcher.everywhere)
    done, seconds = 0, []
    with prefetcher:
        for _ in range(rounds + 1):  # the first compiles
            start, until = time.perf_counter(), done + updates
            while done < until:
                block, n = prefetcher.next_block(done, until)
                state, totals, _ = run(state, None, block, n)
                jax.block_until_ready(totals)
                done += n
            seconds.append((time.perf_counter() - start) / updates)
    peak = peak_resident_bytes()
    send.send({"seconds": seconds[1:], "resident_bytes": peak})


def trial(path: Path, classes: int, in_memory: bool, updates: int, rounds: int) -> dict[str, Any]:
    """What `measure` finds in a new process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    arguments = (send, path, classes, in_memory, updates, rounds)
    process = context.Process(target=measure, args=arguments)
    process.start()
    send.close()
    found = receive.recv()
    process.join()
    return found


def main() -> int:
    """Measure both, in turns; print the figures, and write them where `--out` says."""
    parser = script.measuring_parser("benchmarks.streaming", __doc__)
    parser.add_argument("--gib", type=float, default=4.2, help="size of the data set")
    parser.add_argument("--updates", type=int, default=10, help="updates of a round")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each process")
    parser.add_argument("--repeats", type=int, default=2, help="processes of each kind")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"memory": [], "map": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.npy")
        classes = write(path, options.gib)
        size = path.stat().st_size
        for _ in range(options.repeats):
            for kind in found:
                one = trial(path, classes, kind == "memory", options.updates, options.rounds)
                found[kind].append(one)
                print(kind, one, file=sys.stderr)
    rows = {
        kind: {
            "milliseconds": 1e3 * statistics.median(s for one in some for s in one["seconds"]),
            "resident_bytes": max(one["resident_bytes"] for one in some),
            "processes": some,
        }
        for kind, some in found.items()
    }
    ratio = rows["map"]["milliseconds"] / rows["memory"]["milliseconds"]
    titles = (f"a data set of {size / 2**30:.1f} GiB", "ms an update", "resident, GiB")
    lines = [
        (f"from the {kind}", f"{row['milliseconds']:.0f}", f"{row['resident_bytes'] / 2**30:.2f}")
        for kind, row in rows.items()
    ]
    print("\n".join(script.markdown(titles, lines)))
    print(f"\nfrom the map takes {ratio:.3f} times as long")
    figures = {"set_bytes": size, "ratio": ratio, "load_average": machine.load_average(), **rows}
    script.write_record(options.out, "benchmarks.streaming", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
