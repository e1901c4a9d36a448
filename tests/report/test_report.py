"""The report holds the numbers, pictures and predictions of its run, and stands alone."""

import base64
import dataclasses
import html
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser

import jax
import numpy as np
import pytest
from PIL import Image
from problems import all_but_slow
from report.pictures import EVIL
from training.small_runs import trained

import maml_jax as mj
from maml_jax import report
from maml_jax.cli import main
from maml_jax.cli.parsing import parse
from maml_jax.data import LabelledSet
from maml_jax.errors import InputError
from maml_jax.report.collect import collect
from maml_jax.report.page import page
from maml_jax.report.settings import settings_of, train_command
from maml_jax.report.shown import names_of
from maml_jax.report.tested import evaluated
from maml_jax.training import runs
from maml_jax.training.build import load_data
from maml_jax.training.config import Config, read_config
from maml_jax.training.evaluate import evaluate, evaluation_key
from maml_jax.training.recipes import recipe

KINDS = all_but_slow(("images", "sequences", "regression"), "images", "regression")
SECTIONS = ["settings", "curves", "steps", "episodes", "confused", "hardest", "versions"]
SECTIONS += ["again", "all"]
PNG = "data:image/png;base64,"
VOID = {"meta", "img", "br"}

pytestmark = pytest.mark.xdist_group("report")  # one process trains the runs


class Tags(HTMLParser):
    """The elements of a page, each closed in the order in which it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        self.words.append(words)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_evaluate(kind, reports, runs_of_each_kind):
    contents, text = reports[kind]
    expected = runs.evaluate(runs_of_each_kind[kind], tasks=12, seed=3)
    results = contents.tested.results
    name = "loss" if kind == "regression" else "accuracy"
    means, intervals = expected[f"{name}_per_step"], expected[f"{name}_per_step_ci95"]
    assert results.queries == expected["queries"]
    np.testing.assert_allclose([step.mean for step in results.per_step], means, rtol=1e-6)
    np.testing.assert_allclose([step.ci95 for step in results.per_step], intervals, rtol=1e-5)
    for mean, interval in zip(means, intervals, strict=True):
        shown = f"{mean:.4f} ± {interval:.4f}"
        if name == "accuracy":
            shown = f"{100 * mean:.2f} ± {100 * interval:.2f} %"
        assert shown in text
    if name == "accuracy":
        nearest = expected["nearest_neighbour"]["accuracy"]
        assert contents.tested.results.nearest_neighbour.mean == pytest.approx(nearest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_stands_alone(kind, reports):
    parsed = Tags(reports[kind][1])
    tags = {tag for tag, _ in parsed.found}
    assert tags & {"script", "link", "iframe", "object", "a"} == set()
    for _, attributes in parsed.found:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", PNG).startswith(PNG)
        assert "href" not in attributes
    assert "url(" not in reports[kind][1]
    assert "http" not in reports[kind][1]
    sections = [attributes["id"] for tag, attributes in parsed.found if tag == "section"]
    assert sections == [name for name in SECTIONS if kind != "regression" or name != "confused"]


def test_names_are_escaped(reports, without):
    contents, text = reports["images"]
    assert '<b>"it' not in text
    assert html.escape(EVIL) in text
    assert f"0: {contents.tested.first[0].classes[0].name}" in "".join(Tags(text).words)
    everywhere = without(
        "images",
        name=EVIL,
        summary=EVIL,
        versions={EVIL: EVIL},
        commands=[(EVIL, EVIL)],
        missing=EVIL,
    )
    assert '<b>"it' not in everywhere
    Tags(everywhere)


def task_of(run, number):
    """The evaluated task of a number, drawn by hand, and the predictions before and after."""
    loaded = runs.load(run)
    data = load_data(loaded.config)
    config, queries = loaded.config, 5 if data.kind == "images" else 15
    source = data.tasks("test", ways=config.ways, shots=config.shots, queries=queries)
    key = jax.random.split(evaluation_key(3), 12)[number - 1]
    episode = source.sample(source.store, key)
    predicted = []
    for steps in (0, config.evaluation_steps):
        fast = loaded.learner.adapt(loaded.meta, episode.support, steps)
        predicted.append(np.asarray(loaded.learner.predict(fast, episode.query.x).argmax(-1)))
    return episode, predicted


@pytest.mark.parametrize("kind", all_but_slow(("images", "sequences"), "images"))
def test_tasks_have_their_examples_and_predictions(kind, reports, runs_of_each_kind):
    shown = reports[kind][0].tested.first[1]
    assert shown.number == 2
    episode, (before, after) = task_of(runs_of_each_kind[kind], 2)
    for label, of_class in enumerate(shown.classes):
        support = np.stack(of_class.support)
        expected = episode.support.x[episode.support.y == label]
        np.testing.assert_allclose(support, expected, atol=1e-5)
        rows = np.flatnonzero(episode.query.y == label)[:4]
        for i, query in zip(rows, of_class.queries, strict=True):
            np.testing.assert_allclose(query.x, episode.query.x[i], atol=1e-5)
            assert (query.before, query.after) == (before[i], after[i])
    right = (before == episode.query.y).mean(), (after == episode.query.y).mean()
    np.testing.assert_allclose((shown.before, shown.after), right, rtol=1e-6)
    heading = f"Task 2: {100 * right[0]:.0f} % right before, {100 * right[1]:.0f} % after"
    assert heading in reports[kind][1]


def test_pictures_in_the_page_are_those_of_the_task(reports):
    contents, text = reports["images"]
    source = next(a["src"] for tag, a in Tags(text).found if tag == "img")
    content = base64.b64decode(source.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    expected = contents.tested.first[0].classes[0].support[0][:, :, 0]
    np.testing.assert_allclose(pixels / 255, expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hardest_tasks_are_the_worst(kind, reports, runs_of_each_kind):
    loaded = runs.load(runs_of_each_kind[kind])
    data, config = load_data(loaded.config), loaded.config
    queries = 5 if kind == "images" else 15
    source = data.tasks("test", ways=config.ways, shots=config.shots, queries=queries)
    steps = config.evaluation_steps
    scores = evaluate(loaded.learner, loaded.meta, source, count=12, steps=steps, seed=3)
    per_task = scores.loss_per_task if kind == "regression" else -scores.accuracy_per_task
    worst = np.sort(per_task[:, -1])[::-1][:3]
    hardest = reports[kind][0].tested.hardest
    np.testing.assert_allclose([task.after for task in hardest], np.abs(worst), rtol=1e-5)
    numbers = [task.number for task in hardest]
    np.testing.assert_allclose(per_task[np.array(numbers) - 1, -1], worst, rtol=1e-5)
    for of_class in [] if kind == "regression" else hardest[0].classes:
        right = [query.after == hardest[0].classes.index(of_class) for query in of_class.queries]
        assert right == sorted(right)


def test_confused_classes_are_sorted_and_named(reports):
    contents, text = reports["images"]
    pairs = contents.tested.confused
    totals = [one.wrong + other.wrong for one, other in pairs]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 0
    one, other = pairs[0]
    row, column = divmod(int(one.name[:2]), 4)  # the square says which class a picture is of
    assert (one.example[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] == 1).all()
    said = f"{one.wrong} of {one.queries} <strong>{html.escape(one.name)}</strong> taken for "
    assert said + html.escape(other.name) in text


def test_classes_that_are_rotated_say_so():
    data = LabelledSet(
        name="few",
        examples=np.zeros((4, 2, 2, 1), np.uint8),
        counts=np.array([1, 2, 1]),
        class_names=("a", "b", "c"),
        splits={"train": np.array([0]), "test": np.array([2, 1])},
        rotate=True,
    )
    assert names_of(data, "test", [0, 7, 4]) == ["c", "b, turned by 270°", "b"]


def test_examples_on_the_host_give_the_same_report(reports, runs_of_each_kind):
    run = runs_of_each_kind["images"]
    data = load_data(dataclasses.replace(read_config(run), in_memory_gb=0.0))
    assert data.tasks("test", ways=3, queries=2).load is not None
    found = evaluated(runs.restore(run), data, tasks=12, seed=3, progress=lambda _: None)
    contents, text = reports["images"]
    assert page(dataclasses.replace(contents, tested=found)) == text


def test_regression_is_a_curve_before_and_after(reports, runs_of_each_kind):
    points = reports["regression"][0].tested.first[0].points
    loaded = runs.load(runs_of_each_kind["regression"])
    assert list(points.predictions) == [0, 1, 10]
    support = [part[:, None] for part in points.support]
    batch = mj.Batch(*map(jax.numpy.asarray, support))
    fast = loaded.learner.adapt(loaded.meta, batch, 10)
    expected = loaded.learner.predict(fast, points.x[:, None])[:, 0]
    np.testing.assert_allclose(points.predictions[10], expected, rtol=1e-4, atol=1e-5)
    assert "10 steps" in reports["regression"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_is_drawn(kind, reports):
    parsed = Tags(reports[kind][1])
    labels = [a["aria-label"] for tag, a in parsed.found if tag == "svg" and "aria-label" in a]
    curves = [label for label in labels if "over updates" in label]
    assert len(curves) == (1 if kind == "regression" else 2)
    assert all(("validation tasks" in label) == (kind == "regression") for label in curves)


def test_what_differs_from_the_recipe_stands_first(reports, runs_of_each_kind):
    text = reports["regression"][1]
    first = text[text.index('id="settings"') : text.index('id="curves"')]
    assert "<tr><td><code>hidden</code></td><td>4</td><td>40 40</td></tr>" in first
    assert "<code>meta_lr</code>" not in first
    assert "<dt>meta_lr</dt><dd>0.001</dd>" in text[text.index('id="all"') :]
    names = [setting.name for setting in reports["regression"][0].settings]
    assert not {"damping", "context_size", "data_dir"} & set(names)
    config = read_config(runs_of_each_kind["regression"])
    assert {s.name for s in settings_of(config)} == set(names)


def test_versions_seeds_and_commit(reports, runs_of_each_kind):
    shown = reports["images"][0].versions
    record = json.loads((runs_of_each_kind["images"] / "config.json").read_text(encoding="utf-8"))
    assert shown["jax"] == record["versions"]["jax"]
    assert shown["seed of training"] == "0"
    assert shown["seed of these tests"] == "3"
    assert shown["commit"] == (record["commit"] or "not recorded")


@pytest.mark.parametrize(
    "config",
    [
        Config(
            seed=3, filters=8, batch_norm=False, log=("csv", "wandb"), adapts="a b|'c'", patience=2
        ),
        recipe("sinusoid", "maml-plus-plus"),
        recipe("sequences", "imaml"),
        Config(recipe="quickstart", input_range=(-1.0, 1.0), hidden=(3, 4), data="my data.zip"),
    ],
)
def test_the_command_trains_by_the_same_config(config, monkeypatch):
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    words = shlex.split(train_command(config, "my run"))
    command = parse(words[1:])
    assert words[-2:] == ["--out", "my run"]
    assert command.config() == config


def test_the_same_run_gives_the_same_bytes(runs_of_each_kind, tmp_path):
    run = shutil.copytree(runs_of_each_kind["images"], tmp_path / "images")
    one = report.write(run, tasks=4)
    assert one == run / "report.html"
    other = report.write(runs_of_each_kind["images"], tmp_path / "other.html", tasks=4)
    assert one.read_bytes() == other.read_bytes()


def test_without_data_and_log_the_rest_is_shown(runs_of_each_kind, tmp_path, caplog):
    packed = tmp_path / "packed"
    runs.pack(runs_of_each_kind["images"], packed)
    record = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    record["config"]["data"] = str(tmp_path / "gone.npz")
    (packed / "config.json").write_text(json.dumps(record))
    text = report.write(packed).read_text(encoding="utf-8")
    sections = [a["id"] for tag, a in Tags(text).found if tag == "section"]
    assert sections == ["settings", "curves", "steps", "versions", "again", "all"]
    assert "This run has no log of its training." in text
    assert text.count("are left out, for they need the data of the run") == 1
    assert "gone.npz" in caplog.text


def test_other_data_is_refused(runs_of_each_kind, tmp_path):
    packed, where = tmp_path / "packed", tmp_path / "pictures.npz"
    runs.pack(runs_of_each_kind["images"], packed)
    record = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    content = np.load(record["config"]["data"])
    np.savez(where, images=255 - content["images"], labels=content["labels"])
    record["config"]["data"] = str(where)
    (packed / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="`data_dir` held other data than"):
        report.write(packed, data_dir=tmp_path)
    assert "are left out" in report.write(packed).read_text(encoding="utf-8")


def test_data_that_has_moved_is_named(runs_of_each_kind, tmp_path, capsys):
    """It gives the same scores; what is other data is refused, by the name of the option."""
    packed, where = tmp_path / "packed", tmp_path / "moved.npz"
    runs.pack(runs_of_each_kind["images"], packed)
    record = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    shutil.copy(record["config"]["data"], where)
    expected = collect(packed, tasks=4, seed=0, progress=lambda _: None)
    record["config"]["data"] = str(tmp_path / "gone.npz")
    (packed / "config.json").write_text(json.dumps(record))
    words = ["report", str(packed), "--tasks", "4", "--data"]
    assert main([*words, str(where)]) == 0
    found = collect(packed, tasks=4, seed=0, data=str(where), progress=lambda _: None)
    assert found.tested.results == expected.tested.results
    assert found.missing is None
    content = np.load(where)
    np.savez(where, images=255 - content["images"], labels=content["labels"])
    capsys.readouterr()
    assert main([*words, str(where)]) == 2
    assert "--data held other data than" in capsys.readouterr().err


def test_the_best_checkpoint(tmp_path):
    """Its update is in the summary, and its option in the command."""
    run = tmp_path / "run"
    trained(run, updates=4, validate_every=2, checkpoint_every=2)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    for entry in log:
        if "validation" in entry:
            entry["validation"]["loss"] = float(entry["update"])  # the first is the best
    (run / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    found = collect(run, tasks=2, seed=0, checkpoint="best", progress=lambda _: None)
    assert found.updates == 2
    assert all("--checkpoint best" in command for _, command in found.commands[1:])
    assert collect(run, tasks=2, seed=0, progress=lambda _: None).updates == 4


def test_the_command(runs_of_each_kind, tmp_path, capsys):
    run = shutil.copytree(runs_of_each_kind["regression"], tmp_path / "run")
    before = {path.name for path in run.iterdir()}
    words = ["report", str(run), "--tasks", "3", "--seed", "1"]
    assert main([*words, "--out", str(tmp_path / "here.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'here.html'}\n"
    assert {path.name for path in run.iterdir()} == before
    assert main(words) == 0
    again = (run / "report.html").read_text(encoding="utf-8")
    assert again == (tmp_path / "here.html").read_text(encoding="utf-8")
    assert "maml-jax</span> <span>evaluate</span> <span>run</span> <span>--tasks</span>" in again


@pytest.mark.parametrize(
    ("words", "parts"),
    {
        "--tasks 0": ["--tasks was 0", "at least 1"],
        "--seed -1": ["--seed was -1"],
        "--out {place}": ["--out was", "exists"],
        "--out {place}/page.pdf": ["--out was", ".html"],
        "--out {place}/none/page.html": ["--out was", "folder that exists"],
        "--task 3": ["did you mean --tasks?"],
    }.items(),
)
def test_bad_input_is_one_line(words, parts, runs_of_each_kind, tmp_path, capsys):
    run = runs_of_each_kind["regression"]
    before = sorted(run.iterdir())
    assert main(["report", str(run), *words.format(place=tmp_path).split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(part in said for part in parts), said
    assert re.match("maml-jax report: ", said)
    assert sorted(run.iterdir()) == before
    assert list(tmp_path.iterdir()) == []
