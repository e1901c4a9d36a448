"""`python -m parity.article`."""

import json
import re
import sys

from maml_jax.errors import InputError, check_seed
from maml_jax.extras import require
from maml_jax.files import write_file
from parity.article.options import parser


def main(arguments: list[str] | None = None) -> int:
    """Compare, train if asked to, print the tables, and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        # The arrays are small: several threads would cost more in waiting than they gain.
        require("torch", "parity").set_num_threads(1)
        from parity.article import article_report
        from parity.article.agreement import compare_programs
        from parity.article.digits import read_mnist
        from parity.article.training import SOFTMAXES, train_all
        from parity.run_metadata import run_metadata

        check_seed("seed", options.seed)
        seeds = range(options.seed, options.seed + options.seeds)
        if seeds[-1] >= 2**32:
            raise InputError(
                f"`seeds` was {options.seeds}; the last seed, {seeds[-1]}, must be below 2**32."
            )
        if options.out is not None and not options.out.parent.is_dir():
            raise InputError(f"`out` was {options.out}; its folder must exist.")
        steps = sorted(set(options.steps))
        metadata = run_metadata(
            f"python -m parity.article --data-dir FOLDER --epochs {options.epochs} "
            f"--seed {options.seed} --seeds {options.seeds} --softmax {options.softmax} "
            f"--steps {' '.join(map(str, steps))}"
        )
        digits = read_mnist(options.data_dir)
        rows = []
        for row in compare_programs(digits.train, steps, options.seed):
            rows.append(row)
            _log_line(
                f"after {row.steps} steps: weights {row.weights:.1e}, movement {row.movement:.1e}"
            )
        runs = []
        if options.epochs:
            softmaxes = SOFTMAXES if options.softmax == "both" else (options.softmax,)
            runs = train_all(digits, options.epochs, seeds, softmaxes, _log_line)
    except InputError as error:
        # The functions name their arguments in backticks; here they are options.
        line = re.sub(
            "`(data_dir|seeds?|out)`", lambda m: "--" + m[1].replace("_", "-"), str(error)
        )
        _log_line(f"parity.article: {line}")
        return 2
    results = metadata | article_report.to_json(rows, runs, len(digits.test.x))
    text = json.dumps(results, indent=1, allow_nan=False)
    if options.out is not None:
        write_file(options.out, text + "\n", argument="out")
    print(text if options.json else article_report.to_table(rows, runs))
    return 0 if results["passed"] else 1


def _log_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
