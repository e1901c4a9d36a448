"""What a GPU that is there for ten minutes is used for: one command of under nine.

Claim: it ends within the sum of its limits, and what one of its commands has found is kept whatever
becomes of the others: the time to 98.5 % on Omniglot; whole training beside PyTorch and in lower
precision; one meta-gradient with the convolution in each form. `torch.compile` had not compiled
after 90 s on an H100, so it is left out.
Repeat: `python -m benchmarks.accelerator --data-dir FOLDER --out FOLDER`. Beside JAX, Flax, Optax,
Orbax and PyTorch it needs tqdm, Pillow and what the package itself needs; where they cannot be
installed, `pip install --no-deps --target carried jaxtyping wadler_lindig lazy_loader platformdirs
tqdm pillow filelock` elsewhere and `PYTHONPATH=carried` there.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import script


class Step(NamedTuple):
    """One command, which writes its figures to `--out`."""

    name: str
    limit_s: int
    """After so many seconds it is ended."""
    arguments: list[str]
    """Of `python -m`."""
    reads_data: bool = False


def _timed(name: str, limit_s: int, minutes: float, workloads: str, peers: str) -> Step:
    words = f"benchmarks --device gpu --repeats 5 --minutes {minutes}"
    return Step(name, limit_s, [*words.split(), "--only", workloads, "--peers", peers])


STEPS = (
    Step("to-accuracy", 90, ["benchmarks.to_accuracy"], reads_data=True),
    _timed(
        "training",
        230,
        3.6,
        "training-conv4-stride",
        "torch_func,torch_loop,maml_jax_tf32,maml_jax_bf16",
    ),
    _timed(
        "forms",
        215,
        3.3,
        "conv4-stride-32tasks-1step-5queries",
        "torch_func,maml_jax_taps,maml_jax_grouped",
    ),
)


def run(steps: tuple[Step, ...], data: Path, out: Path) -> dict[str, str]:
    """Run the steps, each within its limit, and say how each ended.

    Args:
      steps: in order of importance.
      data: the folder of Omniglot.
      out: where `NAME.json` of each step goes.
    """
    ends = {}
    for step in steps:
        command = [sys.executable, "-m", *step.arguments, "--out", str(out / f"{step.name}.json")]
        command += ["--data-dir", str(data)] if step.reads_data else []
        start = time.monotonic()
        # A session of its own, so that its workers end with it.
        process = subprocess.Popen(command, start_new_session=True)  # noqa: S603
        try:
            code = process.wait(step.limit_s)
            ended = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"ended after its {step.limit_s} s"
        ends[step.name] = ended
        seconds = time.monotonic() - start
        print(f"{step.name}: {ended}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return ends


def main() -> int:
    """Run all steps; 1 if one did not succeed."""
    parser = script.parser("benchmarks.accelerator", __doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder of Omniglot")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the figures")
    names = [step.name for step in STEPS]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, help="these commands, in the order above"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = tuple(step for step in STEPS if step.name in options.only)
    ends = run(chosen, options.data_dir, options.out)
    return 0 if set(ends.values()) == {"done"} else 1


if __name__ == "__main__":
    sys.exit(main())
