"""The weights that ship with the package, from the runs of the published table.

Claim: each folder of `maml_jax/weights/` is a run of `benchmarks.published`, packed, and its card
has the figures of a results file; `example.safetensors` has an episode and the logits that the
weights gave when they were packed, which `tests/training/test_pretrained.py` compares.
Repeat: `python -m benchmarks.ship FILE.json --from RUNS`, with what `benchmarks.published` wrote.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax

import maml_jax as mj
from benchmarks import script
from benchmarks.process import ROOT
from benchmarks.published_table import loss, percent
from maml_jax.training import runs, weights

SHIPPED = {
    "omniglot-5w1s": "omniglot-5w1s",
    "omniglot-5w5s": "omniglot-5w5s",
    "omniglot-20w1s": "omniglot-20w1s",
    "sinusoid": "sinusoid-10",
}
"""The cell of the table whose seed 0 becomes the weights of that name."""
WEIGHTS = ROOT / "maml_jax" / "weights"

CARD = """\
# {name}

{what}, trained by `maml-jax train --recipe {recipe}`: {algorithm} with
{model}, {updates:,} updates of {tasks} tasks, seed {seed}. Its name in `mj.load`,
`mj.FewShotClassifier`, `maml-jax evaluate`, `predict` and `train --init` is `pretrained:{name}`.

{scores}

Intervals are of 95 %. {protocols}

- **Data**: {data}
- **Trained on**: {note}. Tested at commit {commit}.
- **Not for**: {limits}
- **Licence** of the weights: Apache-2.0, as the package.
"""
OMNIGLOT = """\
Omniglot (Lake et al. 2015, MIT licence), 1200 characters for training and validation and
  423 for test by the split of Finn et al. 2017; 28×28 pixels, bright strokes on a dark ground,
  classes also turned by 90, 180 and 270 degrees."""
SINE_CURVES = "sine curves of random amplitude and phase, drawn as in Finn et al. 2017, §5.1."
PROTOCOLS = """\
The paper's protocol has as many query images a class as shots, which batch
norm sees together; the strict one has 15, each by itself beside the support set."""


def ship(name: str, row: dict[str, Any], runs_folder: Path, commit: str) -> Path:
    """Write the folder of the weights; the run is that of the row.

    Args:
      name: one of `SHIPPED`.
      row: of the results file.
      runs_folder: where the runs are.
      commit: of the results file.
    """
    run, out = runs_folder / f"{row['cell']}-{row['seed']}", WEIGHTS / name
    shutil.rmtree(out, ignore_errors=True)
    runs.pack(run, out)
    weights.save(out / "example.safetensors", example(run))
    (out / "CARD.md").write_text(card(name, row, commit), encoding="utf-8")
    return out


def example(run: Path) -> dict[str, Any]:
    """A test episode and the logits of its queries after all inner steps.

    Of characters it is one of `glyphs`, which the package draws itself: the drawings of Omniglot
    are not ours to ship.
    """
    learner, meta, config = runs.load(run)
    data = mj.data.load("sinusoid" if config.data == "sinusoid" else "glyphs")
    source = data.tasks("test", ways=config.ways, shots=config.shots, queries=config.shots)
    episode = jax.tree.map(lambda leaf: leaf[0], source.batch(jax.random.key(0), 1))
    fast = learner.adapt(meta, episode.support, config.evaluation_steps)
    logits = learner.predict(fast, episode.query.x)
    return {
        "support": episode.support._asdict(),
        "query": episode.query._asdict(),
        "logits": logits,
    }


def card(name: str, row: dict[str, Any], commit: str) -> str:
    """The text of a card."""
    config, images = row["config"], "paper" in row
    what = f"{config['ways']}-way {config['shots']}-shot learning of characters"
    limits = (
        "photographs, text in scenes, or a decision about a person; it knows small drawings of "
        "one\n  character. Scores on other drawings are lower than these."
    )
    if config["evaluation_steps"] == 1:
        limits = f"more than one inner step, which was not trained; {limits}"
    if not images:
        what = f"Regression of sine curves from {config['shots']} points"
        limits = "anything but these curves: it is an example, and the smallest there is."
    return CARD.format(
        name=name,
        what=what,
        recipe=config["recipe"],
        algorithm=config["algorithm"],
        model=f"{config['model']}" + (f" of {config['filters']} filters" if images else ""),
        updates=row["updates"],
        tasks=config["tasks"],
        seed=row["seed"],
        scores="\n".join(_accuracies(row) if images else _losses(row)),
        protocols=PROTOCOLS if images else "Tasks had 100 query points.",
        data=OMNIGLOT if images else SINE_CURVES,
        note=row.get("note", "a CPU"),
        commit=commit[:10],
        limits=limits,
    )


def _accuracies(row: dict[str, Any]) -> list[str]:
    lines = [
        [
            protocol,
            *(str(row[protocol][name]) for name in ("queries", "steps", "tasks")),
            percent(row[protocol]),
        ]
        for protocol in ("paper", "strict")
    ]
    titles = ["protocol", "queries a class", "inner steps", "test tasks", "accuracy, %"]
    return script.markdown(titles, lines)


def _losses(row: dict[str, Any]) -> list[str]:
    found = row["mean squared error"]
    lines = [[str(step), loss(found, step)] for step in range(found["steps"] + 1)]
    return script.markdown(["inner steps", "mean squared error"], lines)


def main() -> int:
    """Pack what the results file has."""
    parser = script.parser("benchmarks.ship", __doc__)
    parser.add_argument("file", help="what `python -m benchmarks.published --out` wrote")
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="the runs")
    options = parser.parse_args()
    results = json.loads(Path(options.file).read_text(encoding="utf-8"))
    rows = {(row["cell"], row["seed"]): row for row in results["rows"]}
    for name, cell in SHIPPED.items():
        if (cell, 0) in rows:
            print(ship(name, rows[cell, 0], options.folder, results["git"]["commit"] or "unknown"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
