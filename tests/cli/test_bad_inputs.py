"""Hundreds of bad inputs, generated: each one line, exit code 2, nothing written, nothing lost."""

import dataclasses
import io
import itertools
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from problems import all_but_slow

from maml_jax.cli import main
from maml_jax.training import runs
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe
from maml_jax.training.recorder import train_run

COUNTS = [
    *("ways", "shots", "queries", "filters", "tasks", "updates", "updates-per-dispatch"),
    *("validation-tasks", "checkpoint-every", "keep-checkpoints", "chunk", "patience"),
    *("inner-batch", "training-shots", "image-size", "inner-steps", "evaluation-steps"),
    *("validate-every", "warm-up", "seed", "split-seed"),
]
RATES = ["inner-lr", "meta-lr", "inner-clip", "meta-clip", "in-memory-gb"]
CHOICES = [
    *("recipe", "algorithm", "data", "model", "downsample", "inner-optimizer", "differentiate"),
    *("meta-schedule", "nonfinite", "class-split"),
]


def bad_options():
    """A value that each option of `train` cannot have."""
    for name, value in itertools.product(COUNTS, ("-1", "x", "1.5", "", "1e3", "None1", "99999x")):
        yield ["train", f"--{name}={value}"]
    for name, value in itertools.product(RATES, ("-1", "nan", "inf", "-inf", "x", "")):
        yield ["train", f"--{name}={value}"]
    for name, value in itertools.product(CHOICES, ("x", "", "mamll", "cg", "MAML", "../x")):
        yield ["train", f"--{name}={value}"]
    for algorithm, *options in (
        ("maml", "--adapts", "hed"),
        ("anil", "--adapts", "hed"),
        ("maml-plus-plus", "--inner-steps", "0"),
        ("imaml", "--solver-steps", "0"),
        ("imaml", "--solver", "ccg"),
        ("imaml", "--regularization", "0"),
        ("imaml", "--damping", "-1"),
        ("imaml", "--neumann-rate", "0"),
        ("maml", "--solver-steps", "3"),
        ("cavia", "--context-size", "0"),
        ("proto-maml",),
        ("protonet",),
    ):
        yield ["train", "--recipe", "sinusoid", "--algorithm", algorithm, *options]
    for name in ("updats", "lr", "Tasks", "no-such"):
        yield ["train", f"--{name}", "3"]
    for name in [*COUNTS, *RATES, *CHOICES, "out", "resume", "data-dir"]:
        yield ["train", f"--{name}"]  # without a value
    for word in ("here", "3", "-x"):
        yield ["train", word]
        yield ["evaluate", "{run}", word]
    for name, value in itertools.product(
        ("tasks", "queries", "shots", "steps", "seed"), ("-1", "x", "0.5", "")
    ):
        yield ["evaluate", "{run}", f"--{name}={value}"]
    for name in ("split", "checkpoint"):
        yield ["evaluate", "{run}", f"--{name}=other"]
    for command in ("trian", "Train", "", "eval", "data shwo", "data prepair", "exprot"):
        yield command.split(" ")


def bad_runs():
    """Folders that are no runs, for each command that takes one."""
    for command in (["evaluate"], ["report"], ["train", "--resume"], ["export"]):
        last = ["{place}/w.safetensors"] if command == ["export"] else []
        for place in ("{place}/none", "{place}/empty", "{place}/file", "{place}"):
            yield [*command, place, *last]


def bad_configs(good):
    """Each field of a config with a value of another type; and texts that are no config."""
    other = {str: 5, int: "5", float: "0.5", bool: "yes", type(None): [1], tuple: 7}
    for field in dataclasses.fields(Config):
        value = good["config"][field.name]
        changed = json.loads(json.dumps(good))
        kind = tuple if isinstance(value, list) else type(value)
        changed["config"][field.name] = other[kind]
        yield json.dumps(changed).encode()
        del changed["config"][field.name]
        yield json.dumps(changed).encode() if field.name in ("hidden", "data_dir") else b"[]"
    text = json.dumps(good).encode()
    rng = random.Random(0)  # noqa: S311
    for _ in range(40):
        yield text[: rng.randrange(len(text) - 1)]
    yield from (b"", b"null", b"3", b'{"config": []}', b'{"config": {"a": 1}}', b"\xff\xfe\x00")


def bad_images():
    """Files of images that are none."""
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(noise).save(content, "png")
    png = content.getvalue()
    rng = random.Random(1)  # noqa: S311
    for _ in range(40):
        yield png[: rng.randrange(len(png) - 20)]
    for n in range(0, 200, 10):
        yield bytes(rng.randrange(256) for _ in range(n))
    yield from (b"<svg/>", b"GIF89a", b"BM", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0")


def bad_arrays():
    """Arrays that are no images and labels."""
    x, y = np.zeros((4, 8, 8), np.uint8), np.arange(4)
    for dtype in (np.float32, np.float64, np.int64, np.int8, np.uint16, bool, np.complex64, "U3"):
        yield {"images": x.astype(dtype), "labels": y}
    for shape in ((4,), (4, 8), (4, 8, 8, 2), (4, 8, 8, 4), (4, 8, 8, 1, 1), ()):
        yield {"images": np.zeros(shape, np.uint8), "labels": y}
    for labels in (y[:3], y[:, None], y.astype(float), y > 1, np.array([{}, 1, 2, 3]), y[0]):
        yield {"images": x, "labels": labels}
    yield from (
        {},
        {"images": x},
        {"labels": y},
        {"x_train": x},
        {"images": x[:0], "labels": y[:0]},
    )


OPTIONS = list(bad_options())
RUNS = list(bad_runs())
IMAGES = list(bad_images())
ARRAYS = list(bad_arrays())
CONFIGS = 2 * len(dataclasses.fields(Config)) + 46


def test_there_are_more_than_five_hundred():
    assert len(OPTIONS) + len(RUNS) + len(IMAGES) + len(ARRAYS) + CONFIGS >= 500


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "run"
    config = dataclasses.replace(
        recipe("sinusoid"), hidden=(2,), tasks=2, updates=1, validate_every=0
    )
    config, problem, state = runs.create(config, folder)
    train_run(config, folder, problem, state, quiet=True)
    return folder


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys):
    """Whether a command says one line and ends with 2, with nothing else in the folder after."""
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def content():
        files = (path for path in Path().rglob("*") if path.is_file() and path.name != "lock")
        return {path: path.read_bytes() for path in files}

    def check(command):
        before = content()
        try:
            code = main(command)
        except Exception as error:
            raise AssertionError(f"{command} raised {error!r}") from error
        out, said = capsys.readouterr()
        assert (code, out) == (2, ""), command
        assert said.count("\n") == 1, (command, said)
        assert said.startswith("maml-jax "), (command, said)
        assert len(said) < 1500, (command, said)
        assert content() == before, command

    return check


@pytest.mark.parametrize(
    "part",
    # Four hundred command lines take half a minute.
    all_but_slow(range(10), 0),
)
def test_bad_options(part, run, refused):
    for command in OPTIONS[part::10]:
        refused([word.format(run=run) for word in command])


def test_bad_runs(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for command in RUNS:
        refused([word.format(place=tmp_path) for word in command])


@pytest.mark.parametrize("part", all_but_slow(range(4), 0))
def test_bad_configs(part, run, refused, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    good = json.loads((run / "config.json").read_text())
    texts = list(bad_configs(good))
    assert len(texts) == CONFIGS
    for i, text in enumerate(texts[part::4]):
        Path("run/config.json").write_bytes(text)
        refused([["evaluate", "run"], ["train", "--resume", "run"]][i % 2])


def test_bad_images(refused, tmp_path):
    for label in "ab":
        (tmp_path / "pets" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "pets" / label / "0.png")
    for i, content in enumerate(IMAGES):
        Path("pets/b/1.png").write_bytes(content)
        place = "pets"
        if i % 2:
            Path("pets.zip").unlink(missing_ok=True)
            place = shutil.make_archive("pets", "zip", "pets")
        refused(["data", "show", place])


def test_bad_arrays(refused):
    for i, arrays in enumerate(ARRAYS):
        np.savez("a.npz", **arrays)
        refused([["data", "show", "a.npz"], ["train", "--data", "a.npz", "--out", "r"]][i % 2])
    content = Path("a.npz").read_bytes()
    for n in (0, 1, 30, len(content) - 5):
        Path("a.npz").write_bytes(content[:n])
        refused(["data", "show", "a.npz"])


def test_a_zip_that_unpacks_without_end_is_refused(refused):
    """Ten thousand times its size, and one whose header lies about it."""
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", bytes(40 * 2**20))
    refused(["data", "show", "bomb.zip"])
    content = bytearray(Path("bomb.zip").read_bytes())
    size = (40 * 2**20).to_bytes(4, "little")
    while (at := content.find(size)) >= 0:
        content[at : at + 4] = (1000).to_bytes(4, "little")
    Path("bomb.zip").write_bytes(content)
    refused(["data", "show", "bomb.zip"])


def test_damaged_checkpoints(run, refused, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    files = sorted(path for path in Path("run/checkpoints/1").rglob("*") if path.is_file())
    for i, path in enumerate(files):
        content = path.read_bytes()
        for damaged in (content[:-1] if content else b"x", content + b"x"):
            path.write_bytes(damaged)
            refused([["evaluate", "run"], ["train", "--resume", "run"]][i % 2])
        path.write_bytes(content)


def test_a_damaged_log(run, refused, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for text in ("x\n", "[]\n", '{"loss": 1}\n', '{"update": "1"}\n', "\n\n"):
        Path("run/metrics.jsonl").write_text(text)
        refused(["report", "run"])
