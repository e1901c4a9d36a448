"""The command's options."""

import argparse
from pathlib import Path

from parity.counts import at_least

STEPS = (1, 10, 100, 1000)
_DESCRIPTION = """\
Run the article's MNIST program in PyTorch and in JAX from the same initial weights and in the same
batch order, and compare the weights of both in float64. With --epochs, train the JAX program as
well, in float32, with the article's two softmaxes and with one.
"""
_EXIT_STATUS = """\
exit status: 0 if every error is within the bound, 1 if one is not, 2 if the arguments are wrong

examples:
  python -m parity.article --data-dir FOLDER                    compare after 1 to 1000 steps
  python -m parity.article --data-dir FOLDER --steps 1 10       the same in half a minute
  python -m parity.article --data-dir FOLDER --epochs 20        and train as long as the article
  python -m parity.article --data-dir FOLDER --steps 1 --epochs 20 --seeds 5 --softmax twice
                                                  the article's accuracy from five seeds
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser of `python -m parity.article`."""
    parser = argparse.ArgumentParser(
        prog="python -m parity.article",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the folder that holds mnist/ with the four idx files, gzipped or not",
    )
    parser.add_argument(
        "--epochs",
        type=at_least(0),
        default=0,
        metavar="N",
        help="train the JAX program for N epochs; the article has 20 (default: 0, compare only)",
    )
    parser.add_argument(
        "--steps",
        type=at_least(1),
        nargs="+",
        default=list(STEPS),
        metavar="N",
        help="after how many steps to compare the weights (default: 1 10 100 1000)",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        help="seed of the initial weights and the batch order, at least 0 (default: 0)",
    )
    parser.add_argument(
        "--seeds",
        type=at_least(1),
        default=1,
        metavar="N",
        help="train N times, from the seeds --seed, --seed + 1, … (default: 1)",
    )
    parser.add_argument(
        "--softmax",
        choices=("both", "twice", "once"),
        default="both",
        help="train with the softmax applied twice, as in the article, once, or both (default)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results to FILE")
    return parser
