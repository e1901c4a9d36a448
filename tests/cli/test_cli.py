"""The program from outside: a whole run, its resumption, and every bad input."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from maml_jax.cli import main
from maml_jax.cli.groups import ConfigOptions
from maml_jax.training import metrics, runs
from maml_jax.training.config import GROUPS, Config
from maml_jax.training.recipes import recipe
from maml_jax.version import __version__

SINUSOID = ["train", "--recipe", "sinusoid", "--updates-per-dispatch", "5"]
SINUSOID += ["--validate-every", "10", "--validation-tasks", "20", "--checkpoint-every", "20"]


def same_bits(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 40 updates that was never stopped."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main([*SINUSOID, "--updates", "40", "--out", str(run)]) == 0
    return run


def test_a_run_folder_holds_what_a_run_is(whole):
    record = json.loads((whole / "config.json").read_text())
    assert record["config"]["recipe"] == "sinusoid"
    assert record["config"]["updates"] == 40
    assert {"jax", "flax", "device"} < set(record["versions"])
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if "loss" in line] == list(range(5, 41, 5))
    assert [line["update"] for line in lines if "validation" in line] == [10, 20, 30, 40]
    for picture in ("learning_curve.png", "episode.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_ends_in_the_same_bits(whole, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"

    def append_and_stop(log, record, append=metrics.Log.append):
        append(log, record)
        if record["update"] == 15:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)  # another thread hears of it

    with monkeypatch.context() as patch:
        patch.setattr(metrics.Log, "append", append_and_stop)
        assert main([*SINUSOID, "--updates", "40", "--out", str(run)]) == 0
    assert f"stopped after 15 updates; go on with: maml-jax train --resume {run}" in (
        capsys.readouterr().err
    )
    # What a crash after the checkpoint leaves: a metric of updates that were lost.
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"update": 20, "loss": 123.0}\n')
    assert main(["train", "--resume", str(run)]) == 0
    assert same_bits(runs.restore(run).state, runs.restore(whole).state)
    assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_the_seed_decides_the_run(whole, tmp_path):
    run = tmp_path / "run"  # that an equal one gives the same bits is seen by resuming
    assert main([*SINUSOID, "--updates", "40", "--seed", "1", "--out", str(run)]) == 0
    assert not same_bits(runs.restore(run).state, runs.restore(whole).state)


def test_regression_is_evaluated_by_its_loss(whole, capsys):
    assert main(["evaluate", str(whole), "--tasks", "60", "--steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tasks"] == 60
    assert len(result["loss_per_step"]) == 3
    assert result["loss"] == result["loss_per_step"][-1]
    assert "accuracy" not in result
    assert main(["report", str(whole), "--tasks", "2"]) == 0
    assert (whole / "report.html").is_file()


@pytest.mark.slow  # letters are drawn, and convolutions compiled
def test_images_end_to_end(tmp_path, capsys):
    run = tmp_path / "run"
    small = ["--filters", "4", "--tasks", "2", "--updates", "2", "--validate-every", "0"]
    small += ["--evaluation-steps", "1"]
    assert main(["train", "--recipe", "quickstart", *small, "--out", str(run)]) == 0
    evaluate = ["evaluate", str(run), "--tasks", "10", "--queries", "2"]
    capsys.readouterr()
    assert main([*evaluate, "--transductive", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"accuracy", "accuracy_ci95", "accuracy_per_step", "tasks", "queries"} <= set(result)
    assert 0 <= result["accuracy"] <= 1
    assert len(result["accuracy_per_step"]) == 2
    assert result["queries"] == 2
    # The baseline, on the same tasks, far above the chance of 0.2 at which the model still is.
    nearest = result["nearest_neighbour"]["accuracy"]
    assert 0.3 < nearest < 0.9
    assert main([*evaluate, "--no-transductive"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"\n +1 +\d+\.\d\d ± \d+\.\d\d %\n +nearest.* {100 * nearest:.2f} ±", said)


@pytest.mark.slow  # a program starts, imports JAX and compiles
def test_a_signal_saves_and_the_run_goes_on(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "maml_jax", *SINUSOID, "--updates", "1000000", "--chunk", "9"]
    process = subprocess.Popen([*command, "--out", str(run)], stderr=subprocess.PIPE, text=True)
    while not metrics.read(run):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert f"go on with: maml-jax train --resume {run}" in said
    state = runs.restore(run).state
    assert int(state.update) == metrics.read(run)[-1]["update"]
    assert int(state.update) % 5 == 0


def shown(arguments, capsys):
    """What `--help` prints, without the frames of its boxes."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--help"])
    assert stop.value.code == 0
    return re.sub("[╭╮╰╯─│•]", "", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "parts"),
    {
        "": [
            *("train", "sweep", "evaluate", "predict", "play", "report"),
            *("export", "import", "data"),
            "--version",
        ],
        "train": ["--inner-lr", "inner-loop options", "imaml options", "omniglot-5w1s", "conv4"],
        "sweep": ["--seeds", "--meta-lrs", "inner-loop options", "imaml options"],
        "evaluate": ["--queries", "RUN"],
        "predict": ["RUN", "--support", "--images", "--html"],
        "play": ["RUN", "--port", "--steps"],
        "report": ["RUN", "--tasks", "--out", "--data-dir", "--seed"],
        "export": ["RUN", "FILE"],
        "import": ["FILE", "--mapping", "--out PATH"],
        "data": ["show", "prepare"],
        "data show": ["NAME", "--ways"],
        "data prepare": ["NAME", "--manual-dir"],
    }.items(),
)
def test_help_at_each_level(command, parts, capsys):
    text = shown(command.split(), capsys)
    for part in parts:
        assert part in text
    text.encode("ascii")


def test_help_shows_the_defaults_of_a_recipe(capsys):
    text = shown(["train", "--recipe", "sinusoid", "--algorithm", "imaml"], capsys)
    assert re.search(r"--damping FLOAT\s+Multiple of[^(]*\(default: 5.0\)", text)
    assert re.search(r"--updates INT [^(]*\(default: 70000\)", text)


def test_without_a_command_comes_help(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "usage: maml-jax" in capsys.readouterr().out


def test_versions(capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"maml-jax {__version__} (Python 3.")
    assert f"jax {jax.__version__}," in said


def test_a_config_has_the_options_of_all_groups(monkeypatch):
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    assert set(GROUPS.values()) == set(Config.__bases__)
    config = dataclasses.replace(recipe("sequences", "cavia"), shots=3)
    assert ConfigOptions.of(config).config() == config


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "restore", interrupted)
    assert main(["report", "x"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_help_and_errors_import_no_jax():
    """So they come at once."""
    done = subprocess.run(
        [sys.executable, "-c", HELP_AND_ERRORS],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        encoding="cp1252",
    )
    assert done.returncode == 0, done.stderr
    assert "--updates INT" in done.stdout
    assert "did you mean --updates?" in done.stderr


HELP_AND_ERRORS = """
import sys
from maml_jax.cli import main
assert main(["--version"]) == 0
assert main(["train", "--updats", "3"]) == main(["train", "--recipe", "x"]) == 2
try:
    main(["train", "--help"])
except SystemExit as stop:
    assert stop.code == 0
imported = {"jax", "jaxlib", "flax", "optax", "orbax", "numpy"} & set(sys.modules)
sys.exit(f"imported: {imported}" if imported else 0)
"""


BAD = {
    "evalute": ["no such command (did you mean evaluate?)", "train, sweep, evaluate"],
    "data": ["one of {show, prepare}", "data --help"],
    "sweep --seed 3": ["--seed was 3; a sweep takes --seeds"],
    "sweep --meta-lr 3 --meta-lrs 1 2": ["--meta-lr was 3.0; it stands beside --meta-lrs"],
    "sweep --seeds 1 1": ["--seeds was (1, 1)", "each once"],
    "sweep --together 0": ["--together was 0", "at least 1"],
    "sweep --test-tasks 0": ["--test-tasks was 0", "at least 1"],
    "data shwo": ["no such command (did you mean show?)", "show, prepare"],
    "train --recipe omniglot-5w1": ["--recipe was", "did you mean 'omniglot-5w1s'", "quickstart"],
    "train --recipe": ["--recipe"],
    "train --updats 3": ["no option --updats (did you mean --updates?)", "train --help"],
    "train --updats=3": ["no option --updats (did you mean --updates?)"],
    "train here": ["one word too many: here"],
    "evaluate {whole} --taks 3": ["no option --taks (did you mean --tasks?)", "evaluate --help"],
    "train --updates x": ["--updates", "'x'"],
    "train --updates 0": ["--updates was 0", "at least 1"],
    "train --updates -3": ["--updates was -3"],
    "train --algorithm fomaml --solver neumann": ["--solver was neumann", "it is for imaml"],
    "train --recipe sinusoid --algorithm imaml --solver newton": [
        "--solver was 'newton'",
        "cg, neumann",
    ],
    "train --recipe sinusoid --algorithm imaml --solver-steps 0": ["--solver-steps was 0"],
    "train --algorithm protonet --inner-optimizer adam": ["--inner-optimizer was adam"],
    "train --inner-optimizer adamw": ["--inner-optimizer was 'adamw'", "did you mean 'adam'"],
    "train --inner-clip -1": ["--inner-clip was -1"],
    "train --inner-batch 0": ["--inner-batch was 0"],
    "train --data {pictures} --training-shots 40": ["--shots + --queries was 40 + 1"],
    "train --adapts (": ["--adapts was '('"],
    "train --recipe sinusoid --adapts nothing": ["--adapts matched no weight"],
    "train --recipe sinusoid --algorithm proto-maml": ["head was 'head' with one output"],
    "train --recipe sequences --model conv4": ["--model was 'conv4'"],
    "train --recipe sequences --hidden 4 4": ["--hidden was (4, 4)"],
    "train --recipe sinusoid --algorithm cavia --context-size 0": ["--context-size was 0"],
    "train --recipe sinusoid --algorithm maml-plus-plus --inner-steps 0": ["--inner-steps was 0"],
    "train --data {pictures} --model gru": ["--model was 'gru'"],
    "train --algorithm mamll": ["--algorithm was 'mamll'", "did you mean 'maml'"],
    "train --data omnigot": ["--data was", "did you mean 'omniglot'"],
    "train --data omniglot": ["--data-dir was not given"],
    "train --data omniglot --data-dir {empty}": ["--data-dir was", "images_background.zip"],
    "train --data omniglot --data-dir {empty}/none": ["--data-dir was", "must be a folder"],
    "train --model conv5": ["--model was 'conv5'", "did you mean 'conv4'"],
    "train --downsample pool": ["--downsample was", "maxpool"],
    "train --filters 0": ["--filters was 0"],
    "train --hidden 40 0": ["--hidden was 0"],
    "train --ways 1": ["--ways was 1", "at least 2"],
    "train --data {pictures} --ways 2000": ["--ways was 2000", "16 classes"],
    "train --data {pictures} --ways 26": ["--ways was 26; the train split", "together 25"],
    "train --shots 0": ["--shots was 0"],
    "train --data {pictures} --shots 20": ["--shots + --queries was 20 + 1", "20 images"],
    "train --queries 0": ["--queries was 0"],
    "train --inner-lr 0": ["--inner-lr was 0.0", "above 0"],
    "train --inner-lr nan": ["--inner-lr was nan"],
    "train --meta-lr inf": ["--meta-lr was inf"],
    "train --inner-steps -1": ["--inner-steps was -1", "at least 0"],
    "train --evaluation-steps -1": ["--evaluation-steps was -1"],
    "train --tasks 0": ["--tasks was 0"],
    "train --chunk 0": ["--chunk was 0"],
    "train --seed -1": ["--seed was -1"],
    "train --split-seed 4294967296": ["--split-seed was 4294967296"],
    "train --updates-per-dispatch 0": ["--updates-per-dispatch was 0"],
    "train --validate-every -1": ["--validate-every was -1"],
    "train --validation-tasks 0": ["--validation-tasks was 0"],
    "train --checkpoint-every 0": ["--checkpoint-every was 0"],
    "train --recipe sinusoid --model conv4": ["--model was 'conv4'"],
    "train --out {empty}": ["--out was", "exists"],
    "train --resume {empty}": ["--resume was", "config.json"],
    "train --resume {whole} --tasks 3": ["no option --tasks beside --resume"],
    "train --resume {whole} --updates 0": ["--updates was 0"],
    "train --resume {broken}": ["--resume was", "config.json is damaged"],
    "evaluate": ["RUN"],
    "evaluate {empty}": ["RUN was", "config.json"],
    "evaluate {unsaved}": ["RUN was", "holds no checkpoint"],
    "evaluate {damaged}": ["RUN was", "checkpoint 40 is damaged"],
    "evaluate {other}": ["RUN was", "checkpoint 40 is of another model"],
    "train --resume {damaged}": ["--resume was", "checkpoint 40 is damaged"],
    "train --resume {other}": ["--resume was", "checkpoint 40 is of another model"],
    "evaluate {whole} --tasks 0": ["--tasks was 0"],
    "evaluate {whole} --steps -1": ["--steps was -1"],
    "evaluate {whole} --queries 0": ["--queries was 0"],
    "evaluate {whole} --shots 0": ["--shots was 0"],
    "evaluate {whole} --split tset": ["--split was 'tset'", "did you mean 'test'"],
    "evaluate {whole} --seed -1": ["--seed was -1"],
    "report {empty}": ["RUN was"],
    "report {unsaved}": ["RUN was", "holds no checkpoint"],
    "report {whole} --tasks 0": ["--tasks was 0"],
    "report {whole} --out {empty}": ["--out was", "exists"],
}


@pytest.fixture(scope="module")
def places(whole, tmp_path_factory):
    """Folders that are not, or no longer, those of a good run."""
    import shutil

    folder = tmp_path_factory.mktemp("bad")
    for name in ("empty", "broken", "unsaved"):
        (folder / name).mkdir()
    (folder / "broken" / "config.json").write_text('{"config": {"recipe": ')
    shutil.copy(whole / "config.json", folder / "unsaved")
    shutil.copytree(whole, folder / "damaged")
    shutil.copytree(whole, folder / "other")
    config = json.loads((whole / "config.json").read_text())
    config["config"]["hidden"] = [40, 30]
    (folder / "other" / "config.json").write_text(json.dumps(config))
    for file in (folder / "damaged" / "checkpoints").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[:-9])
    images, labels = np.zeros((25 * 20, 8, 8), np.uint8), np.arange(25).repeat(20)
    np.savez(folder / "pictures.npz", images=images, labels=labels)
    return {path.stem: path for path in folder.iterdir()} | {"whole": whole}


def snapshot(places):
    return {
        path: path.read_bytes()
        for place in places.values()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_harmless(line, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    before = snapshot(places)
    assert main(line.format(**places).split()) == 2
    output, said = capsys.readouterr()
    assert output == ""
    assert said.count("\n") == 1
    assert said.startswith(f"maml-jax {line.split(' ')[0]}: ")
    for part in BAD[line]:
        assert part in said
    assert snapshot(places) == before
    assert list(Path().iterdir()) == []
