r"""How long predictions take, and how far their probabilities can be believed.

Claim, for `pretrained:omniglot-5w1s` on held-out characters of Omniglot:

- the first prediction in a new process, with import, compiling and `fit` on five pictures; `fit`
  again; ten pictures by a fitted classifier; 10,000 pictures;
- the expected calibration error $\sum_b \tfrac{n_b}{n} |\text{accuracy}_b - \text{confidence}_b|$
  over 15 bins of the largest probability (Guo et al. 2017), of 5-way 5-shot tasks with each picture
  predicted by itself, at temperature 1 and at that of leaving out one labelled picture at a time.

Repeat: `python -m benchmarks.predicting --data-dir FOLDER` on a machine that does nothing else.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import maml_jax as mj
from benchmarks import script
from benchmarks.process import ROOT
from maml_jax import FewShotClassifier, use_all_cores

NAME, CALIBRATED = "omniglot-5w1s", "omniglot-5w5s"
REPEATS = 20
BINS = 15


def expected_calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """The error over `BINS` bins of equal width.

    Args:
      probabilities: `[pictures]`, the largest of each.
      right: `[pictures]`, whether its class is the picture's.
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in range(BINS):
        here = bins == number
        if here.any():
            error += here.mean() * abs(right[here].mean() - probabilities[here].mean())
    return float(error)


def times(task: mj.Episode) -> dict[str, float]:
    """Seconds of each of `fit`, ten pictures, and 10,000, in this process."""
    x, y = np.asarray(task.support.x), np.asarray(task.support.y)
    ten, many = np.asarray(task.query.x)[:10], np.resize(task.query.x, (10_000, *x.shape[1:]))
    classifier = FewShotClassifier.from_pretrained(NAME, invert=False).fit(x, y)
    classifier.predict(ten)
    fit = _median(lambda: classifier.fit(x, y))
    predict = _median(lambda: classifier.predict(ten))
    start = time.perf_counter()
    for _ in classifier.stream_proba(many):
        pass
    streamed = time.perf_counter() - start
    return {"fit_s": fit, "ten_pictures_s": predict, "ten_thousand_pictures_s": streamed}


def cold(task: mj.Episode, folder: Path) -> list[float]:
    """Seconds of a process that labels ten pictures, with an empty cache of XLA's and with a full
    one; the convolution is compiled already.
    """
    file, cache = folder / "task.npz", folder / "xla"
    np.savez(file, x=task.support.x, y=task.support.y, ten=np.asarray(task.query.x)[:10])
    program = (
        "import sys, numpy as np, maml_jax as mj\n"
        "d = np.load(sys.argv[1])\n"
        f"c = mj.FewShotClassifier.from_pretrained('{NAME}', invert=False).fit(d['x'], d['y'])\n"
        "c.predict(d['ten'])\n"
    )
    found = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", program, str(file)],
            cwd=ROOT,
            check=True,
            env=_environment(cache),
        )
        found.append(time.perf_counter() - start)
    return found


def _environment(cache: Path) -> dict[str, str]:
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {**os.environ, **settings}


def calibration(tasks: mj.Episode, count: int) -> dict[str, Any]:
    """The error by both temperatures over all queries of the tasks."""
    found: dict[str, Any] = {"tasks": count}
    for how in (1.0, "leave-one-out"):
        largest, right = [], []
        for number in range(count):
            task = jax.tree.map(lambda leaf, i=number: np.asarray(leaf[i]), tasks)
            classifier = FewShotClassifier.from_pretrained(
                CALIBRATED, temperature=how, invert=False
            ).fit(task.support.x, task.support.y)
            probabilities = classifier.predict_proba(task.query.x)
            largest.append(probabilities.max(1))
            right.append(classifier.classes_[probabilities.argmax(1)] == task.query.y)
        every, of_them = np.concatenate(largest), np.concatenate(right)
        found["queries"] = len(every)
        found["accuracy"] = float(of_them.mean())
        name = "temperature 1" if how == 1.0 else str(how)
        found[name] = expected_calibration_error(every, of_them)
    return found


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> int:
    """Measure and print."""
    parser = script.measuring_parser("benchmarks.predicting", __doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder of Omniglot")
    parser.add_argument("--tasks", type=int, default=100, help="of the calibration")
    options = parser.parse_args()
    use_all_cores()
    data = mj.data.load("omniglot", data_dir=options.data_dir)
    source = data.tasks("test", ways=5, shots=1, queries=15)
    task = jax.tree.map(lambda leaf: leaf[0], source.batch(jax.random.key(0), 1))
    figures: dict[str, Any] = times(task)
    with tempfile.TemporaryDirectory() as folder:
        figures["first_process_s"], figures["next_process_s"] = cold(task, Path(folder))
    source = data.tasks("test", ways=5, shots=5, queries=10)
    tasks = source.batch(jax.random.key(1), options.tasks)
    figures["calibration"] = calibration(tasks, options.tasks)
    print(json.dumps(figures, indent=1))
    script.write_record(options.out, "benchmarks.predicting", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
