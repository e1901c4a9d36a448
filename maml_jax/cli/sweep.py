"""The command `sweep`: runs that differ in seed and rate, and a table of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maml_jax.cli.groups import ConfigOptions
from maml_jax.cli.messages import say
from maml_jax.errors import InputError, check_count
from maml_jax.files import write_file
from maml_jax.training.recipes import recipe


@dataclass(frozen=True)
class Sweep(ConfigOptions):
    """Meta-train many runs side by side, each in a folder as if trained alone, and compare them."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """The seeds, one or more."""
    meta_lrs: tuple[float, ...] = ()
    """Rates of Adam, each with all seeds; the one of --meta-lr where not given."""
    out: Path | None = None
    """The folder of the runs, which must not exist; if not given, runs/RECIPE-ALGORITHM-sweep."""
    together: int | None = None
    """How many runs one program trains; all where not given. Fewer take less memory."""
    test_tasks: int = 200
    """How many test tasks each run is scored on."""

    def __call__(self) -> int:
        from maml_jax.training import pictures, sweep
        from maml_jax.training.metrics import to_json

        config = self.config()
        usual = recipe(config.recipe, config.algorithm)
        if config.seed != usual.seed:
            raise InputError(f"`seed` was {config.seed}; a sweep takes `seeds`.")
        if self.meta_lrs and config.meta_lr != usual.meta_lr:
            raise InputError(f"`meta_lr` was {config.meta_lr}; it stands beside `meta_lrs`.")
        check_count("test_tasks", self.test_tasks)
        if self.together is not None:
            check_count("together", self.together)
        out = self.out or Path("runs", f"{config.recipe}-{config.algorithm}-sweep")
        members = sweep.create(config, out, self.seeds, self.meta_lrs)
        say(f"{out}: {len(members)} runs of {config.updates} updates")
        ended = sweep.train(members, together=self.together)
        if any(end.how == "interrupted" for end in ended):
            say(f"stopped; each goes on with: maml-jax train --resume {members[0].run}")
            return 0
        for member, end in zip(members, ended, strict=True):
            one, problem = member.config, member.problem
            pictures.draw(member.run, one, problem.learner, end.state.meta, problem.data)
            if end.how not in ("done", "early"):
                say(f"{member.run}: {end.how}")
        result = sweep.evaluate(members, ended, self.test_tasks)
        print(table(result))
        write_file(out / "sweep.json", to_json(result, indent=2) + "\n", argument="out")
        return int(any(end.how not in ("done", "early") for end in ended))


def table(result: dict[str, Any]) -> str:
    """The runs and, over the seeds of each rate, mean and spread; accuracies as percentages."""
    name = result["score"]
    scale, digits, unit = (100.0, 2, " %") if name == "accuracy" else (1.0, 4, "")
    lines = [f"{'meta-lr':>10}  {'seed':>6}  {name} on {result['tasks']} test tasks"]
    for row in result["runs"]:
        score = f"{scale * row[name]:.{digits}f} ± {scale * row[f'{name}_ci95']:.{digits}f}{unit}"
        lines.append(f"{row['meta_lr']:>10g}  {row['seed']:>6}  {score} (95 % interval)")
    for row in result["rates"]:
        mean, spread = scale * row[f"{name}_mean"], scale * row[f"{name}_spread"]
        lines.append(
            f"{row['meta_lr']:>10g}  {'all':>6}  {mean:.{digits}f} ± {spread:.{digits}f}{unit} "
            f"(deviation over {row['runs']} seeds)"
        )
    return "\n".join(lines)
