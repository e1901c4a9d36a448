"""The wheel is whole: built, unpacked into an empty folder, and used from there alone.

It is slow for it builds the wheel, and runs everything in processes of their own.
"""

import json
import math
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageOps

from maml_jax.data.sets.omniglot import list_omniglot
from maml_jax.training.metrics import confidence_95

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder in which the wheel alone is unpacked, which is what installing it does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, cwd=folder)
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "site")  # our own
    return folder / "site"


@pytest.fixture
def run(wheel, tmp_path):
    """Run Python in an empty folder, where `maml_jax` is the wheel's."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(wheel)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert run("-c", "import maml_jax; print(maml_jax.__file__)").startswith(str(wheel))
    return run


def test_it_has_what_is_not_python(wheel):
    names = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*")}
    assert {"maml_jax/py.typed", "maml_jax/__init__.pyi"} <= names
    sources = {path.name for path in (ROOT / "maml_jax/kernels/cpu").iterdir()}
    assert {f"maml_jax/kernels/cpu/{name}" for name in sources} <= names
    assert {"maml_jax/classifier/play.html", "maml_jax/weights/sinusoid/CARD.md"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "benchmarks")) for name in names)


def test_the_first_example_of_the_readme_runs_as_pasted(run, tmp_path):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(example[1], encoding="utf-8")
    said = run("example.py")
    percent = re.search(r"accuracy (\d+\.\d+) ± \d+\.\d+ %", said)
    assert percent, said
    assert float(percent[1]) > 35  # five classes: chance is 20


def test_the_programs(run, tmp_path):
    assert run("-m", "maml_jax", "--version").startswith("maml-jax ")
    options = ("--updates", "20", "--filters", "2", "--validate-every", "0")
    run("-m", "maml_jax", "train", "--recipe", "quickstart", *options, "--out", "demo")
    assert (tmp_path / "demo/episode.png").is_file()
    assert "± " in run("-m", "maml_jax", "evaluate", "demo", "--tasks", "5")


def omniglot_drawings(folder, data_dir, new):
    """Five characters of Omniglot's second part: one drawing of each labelled, `new` to label."""
    by_character = {}
    with zipfile.ZipFile(data_dir / "omniglot" / "images_evaluation.zip") as held:
        for name in sorted(held.namelist()):
            if name.endswith(".png"):
                by_character.setdefault(name.rpartition("/")[0], []).append(name)
        for number in range(5):
            drawings = list(by_character.values())[100 * number : 100 * number + 1][0]
            for i, name in enumerate(drawings[: new + 1]):
                part = "labelled" if i == 0 else "new"
                file = folder / part / f"c{number}" / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(held.read(name))


CLASSIFY = """
from pathlib import Path
import maml_jax as mj
labelled, new = (sorted(Path(part).rglob("*.png")) for part in ("labelled", "new"))
classifier = mj.FewShotClassifier.from_pretrained("omniglot-5w1s")
classifier.fit(labelled, [path.parent.name for path in labelled])
print(classifier.score(new, [path.parent.name for path in new]))
"""


def test_the_weights_that_ship_label_drawings(run, tmp_path, data_dir):
    """By the class and by the command: at the card's 98 % more than five of 50 are not wrong."""
    omniglot_drawings(tmp_path, data_dir, new=10)
    assert float(run("-c", CLASSIFY)) >= 0.9
    command = ("predict", "pretrained:omniglot-5w1s", "--support", "labelled", "--images", "new")
    found = json.loads(run("-m", "maml_jax", *command, "--json"))
    right = [one["label"] in one["file"] for one in found]
    assert len(right) == 50
    assert sum(right) >= 45


STRICT_TASKS = 200
BY_CLASS = f"""
import sys, time
import jax, numpy as np
import maml_jax as mj
from maml_jax.training.metrics import confidence_95
data = mj.data.load("omniglot", data_dir=sys.argv[1])
tasks = data.tasks("test", ways=5, shots=1, queries=15).batch(jax.random.key(1), {STRICT_TASKS})
x, y, query_x, query_y = map(np.asarray, (*tasks.support, *tasks.query))
scores, seconds = [], []
for number in range({STRICT_TASKS}):
    start = time.perf_counter()
    classifier = mj.FewShotClassifier.from_pretrained("omniglot-5w1s", invert=False)
    found = classifier.fit(x[number], y[number]).predict(query_x[number])
    seconds.append(time.perf_counter() - start)
    scores.append(np.mean(found == query_y[number]))
print(np.mean(scores), confidence_95(np.array(scores)), seconds[0], np.median(seconds))
"""


def card_of(name):
    """Accuracy and half of its interval, in %, by the strict protocol of a card."""
    card = (ROOT / f"maml_jax/weights/{name}/CARD.md").read_text(encoding="utf-8")
    accuracy, interval = re.search(r"strict .*\| (\S+) ± (\S+) \|", card).groups()
    return float(accuracy), float(interval)


def agrees(accuracy, interval):
    """Whether an accuracy in % is the card's: their difference's 95 % interval holds 0."""
    card, its = card_of("omniglot-5w1s")
    return abs(accuracy - card) <= math.hypot(interval, its)


def test_the_weights_that_ship_are_as_good_as_their_card_says(run, data_dir):
    """By the class, on new tasks of 1 drawing and 15 to label of each of five test characters."""
    said = run("-c", BY_CLASS, str(data_dir))
    accuracy, interval, cold, warm = map(float, said.split())
    print(f"{100 * accuracy:.2f} ± {100 * interval:.2f} %, cold {cold:.1f} s, warm {warm:.3f} s")
    assert interval < 0.01
    assert agrees(100 * accuracy, 100 * interval), said


COMMAND_TASKS = 40
BY_COMMAND = """
import contextlib, io, json, sys
from pathlib import Path
from maml_jax.cli import main
for task in sorted(Path("tasks").iterdir()):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        words = ["--support", str(task / "labelled"), "--images", str(task / "new"), "--json"]
        assert main(["predict", "pretrained:omniglot-5w1s", *words]) == 0
    rows = json.loads(said.getvalue())
    print(sum(row["file"].split("/")[0] == row["label"] for row in rows) / len(rows))
"""


def test_the_command_is_as_good_as_the_card_says(run, tmp_path, data_dir):
    """From the files of Omniglot as they come: dark strokes on white, 105 pixels a side."""
    listing = list_omniglot(data_dir)
    draw = np.random.default_rng(1)
    for number in range(COMMAND_TASKS):
        for name in draw.choice(sorted(listing.splits["test"]), 5, replace=False):
            drawings = draw.permutation(20)[:16]
            for place in drawings:
                part = "labelled" if place == drawings[0] else "new"
                folder = tmp_path / "tasks" / f"{number:02}" / part / name.replace("/", "-")
                folder.mkdir(parents=True, exist_ok=True)
                picture = listing.read(listing.classes[name][place])
                ImageOps.invert(picture).save(folder / f"{place}.png")
    scores = 100 * np.array(run("-c", BY_COMMAND).split(), float)
    assert len(scores) == COMMAND_TASKS
    assert agrees(scores.mean(), confidence_95(scores)), scores.mean()


def test_a_cell_of_parity(run):
    pytest.importorskip("torch")
    assert " ok " in run("-m", "parity", "--only", "maml/mlp-sinusoid/1")


def test_a_users_program_is_typed_and_runs(run, tmp_path):
    program = (ROOT / "tests/user_program.py").read_text("utf-8")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    assert "Success" in run("-m", "mypy", "--strict", "program.py")
    assert "MetaLearner(maml, 2 inner steps)" in run("program.py")
    wrong = program.replace("inner_lr=0.1", "inner_rl=0.1")
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    code = "import sys; from mypy import api; print(api.run(['--strict', 'wrong.py'])[0])"
    assert 'Unexpected keyword argument "inner_rl" for "maml"' in run("-c", code)
