"""Where a training's figures go: each log holds what `metrics.jsonl` does, once, however it ran."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from problems import all_but_slow
from small_runs import SMALL, resumed, trained

import maml_jax as mj
from maml_jax import registry
from maml_jax.errors import InputError
from maml_jax.training import logs, metrics, runs
from maml_jax.training.build import build
from maml_jax.training.config import read_config


def scalars_of_csv(file):
    """Every number in a table: name, update, value."""
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            update = int(row.pop("update"))
            yield from ((name, update, float(value)) for name, value in row.items() if value)


def scalars_of_tensorboard(folder):
    """Every scalar in TensorBoard's files: a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def records_of_wandb(folder):
    """Every record in W&B's files, which a process of its own ends shortly after `finish`."""
    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        for _ in range(200):
            records = list(records_in(path))
            if records and records[-1].WhichOneof("record_type") == "exit":
                break
            time.sleep(0.1)
        yield from records


def records_in(path):
    """Every whole record in one of them: a head of 7 bytes, then LevelDB's log, blocks of 32 KiB of
    pieces: a checksum, a length, and whether the piece is whole or the first, a middle or the last.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = path.read_bytes(), 7, b""
    while at < len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(record)
            record = b""


def scalars_of_wandb(folder):
    steps = []
    for record in records_of_wandb(folder):
        if record.WhichOneof("record_type") != "history":
            continue
        items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        values = {name: json.loads(value) for name, value in items.items() if name[0] != "_"}
        steps.append(record.history.step.num)
        update = values.pop("update")
        yield from ((name, update, value) for name, value in values.items())
    assert steps == sorted(set(steps))


READERS = {
    "csv": ("log.csv", scalars_of_csv),
    "tensorboard": ("tensorboard", scalars_of_tensorboard),
    "wandb": ("wandb", scalars_of_wandb),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")


def available(name):
    """The log of that name, if its library is installed; else the test is skipped."""
    if name == "wandb":
        pytest.importorskip("wandb", reason="wandb is not installed: pip install 'maml-jax[wandb]'")
    return name


def found(name, run):
    place, read = READERS[name]
    return sorted((tag, update, np.float32(value)) for tag, update, value in read(run / place))


def expected(run):
    entries = [logs.entry_of(record) for record in metrics.read(run)]
    return sorted(
        (tag, update, np.float32(value))
        for update, values in entries
        for tag, value in values.items()
    )


def test_every_log_of_ours_is_tested():
    assert READERS.keys() == set(registry.names("logs"))


@pytest.mark.parametrize("name", all_but_slow(READERS, "csv"))
def test_it_holds_the_log_once_after_a_resume(name, tmp_path):
    """Also where the run was stopped after its last checkpoint, and makes two entries again."""
    run = tmp_path / "run"
    trained(run, updates=8, log=(available(name),))
    assert len(expected(run)) == 8
    assert found(name, run) == expected(run)
    shutil.rmtree(run / "checkpoints" / "8")  # as a kill before it was saved leaves it
    resumed(run)
    assert found(name, run) == expected(run)
    resumed(run, updates=12)
    assert {update for _, update, _ in expected(run)} == {2, 4, 6, 8, 10, 12}
    assert found(name, run) == expected(run)


@pytest.mark.parametrize("name", all_but_slow(READERS, "csv"))
def test_one_that_is_added_to_a_run_has_all_of_it(name, copy):
    resumed(copy, updates=14, log=(available(name),))
    assert read_config(copy).log == (name,)
    assert found(name, copy) == expected(copy)


def test_several_at_a_time_and_the_same_named_twice(tmp_path):
    run = tmp_path / "run"
    trained(run, updates=4, log=("csv", "tensorboard", "csv"))
    assert found("csv", run) == found("tensorboard", run) == expected(run) != []


def test_an_update_without_a_finite_number_leaves_its_place_empty(tmp_path):
    log = metrics.Log(tmp_path, 0, ["csv"])
    log.append({"update": 1, "loss": 0.5, "accuracy": 0.25})
    log.append({"update": 2, "loss": float("nan"), "accuracy": 0.75})
    log.append({"update": 2, "validation": {"loss": 0.1, "loss_per_step": [0.3, 0.1]}})
    table = (tmp_path / "log.csv").read_text(encoding="utf-8").split()
    assert table == [
        "update,training/loss,training/accuracy,validation/loss",
        "1,0.5,0.25,",
        "2,,0.75,",
        "2,,,0.1",
    ]


@pytest.fixture(scope="module")
def problem():
    return build(SMALL)


def train_small(problem, callback):
    tasks = runs.training_tasks(SMALL, problem.data)
    options = {"updates": 6, "updates_per_dispatch": 2, "tasks_per_update": 2, "progress": False}
    _, log = mj.train(problem.learner, problem.params, tasks, callback=callback, **options)
    return sorted((name, e["update"], e[name]) for e in log for name in e if name != "update")


def test_a_table_by_mj_train(problem, tmp_path):
    (tmp_path / "log.csv").write_text("something else\n")
    log = train_small(problem, mj.CSVLogger(tmp_path / "log.csv"))
    assert sorted(scalars_of_csv(tmp_path / "log.csv")) == log
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_tensorboard_by_mj_train(problem, tmp_path):
    logger = mj.TensorBoardLogger(tmp_path)
    log = train_small(problem, logger)
    logger.close()
    rounded = [(name, update, np.float32(value)) for name, update, value in log]
    assert sorted(scalars_of_tensorboard(tmp_path)) == rounded


def test_wandb_by_mj_train(problem, tmp_path):
    available("wandb")
    import wandb

    logger = mj.WandbLogger(wandb.init(mode="offline", dir=tmp_path))
    log = train_small(problem, logger)
    logger.close()
    assert sorted(scalars_of_wandb(tmp_path / "wandb")) == log


def test_wandb_knows_the_run(tmp_path):
    available("wandb")
    run = tmp_path / "sinusoid"
    trained(run, updates=2, log=("wandb",))
    resumed(run, updates=4)
    kinds = {}
    for record in records_of_wandb(run / "wandb"):
        kinds.setdefault(record.WhichOneof("record_type"), []).append(record)
    begun = [record.run for record in kinds["run"]]
    assert {one.run_id for one in begun} == {(run / "wandb" / "id").read_text(encoding="utf-8")}
    assert {(one.display_name, one.project) for one in begun} == {("sinusoid", "maml-jax")}
    config = {item.key: item.value_json for item in begun[0].config.update}
    assert json.loads(config["hidden"]) == [4]
    assert {record.metric.step_metric for record in kinds["metric"]} >= {"update"}


def test_what_wandb_has_online_is_not_sent_again(tmp_path, monkeypatch):
    """There its step, where a run goes on, is the one after the last that it has."""
    available("wandb")
    import wandb

    sent = []

    class Online:
        offline, step = False, 3

        def define_metric(self, *args, **kwargs): ...

        def log(self, metrics, step, commit):
            sent.append((step, metrics["update"]))

    monkeypatch.setattr(wandb, "init", lambda **options: Online())
    (tmp_path / "config.json").write_text('{"config": {}}')
    log = registry.find("logs", "wandb")(tmp_path, [(5, {"loss": 1.0})])
    for update in (10, 10, 15):
        log(update, {"loss": 0.5})
    assert sent == [(3, 10), (4, 15)]


def test_wandb_that_cannot_start_says_why(tmp_path, monkeypatch):
    available("wandb")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(InputError, match=r"`log` was wandb, which did not start: .*'offline'"):
        trained(tmp_path / "run", log=("wandb",))


def test_a_name_that_is_none_leaves_nothing(tmp_path, copy):
    message = r"`log` was 'tensorbord' \(did you mean 'tensorboard'\?\); it may be one of csv, "
    with pytest.raises(InputError, match=message):
        trained(tmp_path / "run", log=("csv", "tensorbord"))
    assert not (tmp_path / "run").exists()
    before = (copy / "config.json").read_bytes()
    with pytest.raises(InputError, match=message):
        resumed(copy, log=("tensorbord",))
    assert (copy / "config.json").read_bytes() == before


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "cli"), ("wandb", "wandb")])
def test_a_missing_library_is_named_before_anything_is_written(name, extra, tmp_path, monkeypatch):
    library = {"tensorboard": "tensorboardX", "wandb": "wandb"}[name]
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"maml_jax.training.logs.{name}", raising=False)
    with pytest.raises(InputError) as error:
        trained(tmp_path / "run", log=(name,))
    assert str(error.value) == (
        f"{library} is not installed, which this needs: pip install 'maml-jax[{extra}]'."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_loaded_where_its_logs_are_unknown(copy):
    record = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    record["config"]["log"] = ["from-another-package"]
    (copy / "config.json").write_text(json.dumps(record))
    assert mj.load(copy).config.log == ("from-another-package",)
    with pytest.raises(InputError, match="`log` was 'from-another-package'"):
        resumed(copy)
    assert resumed(copy, log=()).ended == "done"


@pytest.mark.parametrize(("was", "log"), [(True, ("tensorboard",)), (False, ())])
def test_runs_from_when_tensorboard_was_a_switch(was, log, copy):
    for path in (copy / "config.json", *copy.glob("checkpoints/*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["config"]["log"]
        record["config"]["tensorboard"] = was
        path.write_text(json.dumps(record))
    assert read_config(copy).log == log


class Remembered:
    """A logger of another package."""

    def __init__(self, run, entries):
        self.entries, self.closed = list(entries), False

    def __call__(self, update, metrics, meta=None):
        self.entries.append((update, dict(metrics)))

    def close(self):
        self.closed = True


def test_a_logger_is_closed_also_where_the_next_cannot_start(tmp_path, monkeypatch):
    opened = []

    def find(room, name):
        def in_run(run, entries):
            if name == "bad":
                raise InputError("no")
            opened.append(Remembered(run, entries))
            return opened[-1]

        return in_run

    monkeypatch.setattr(registry, "find", find)
    both = logs.Loggers(["one", "two"], tmp_path, [(1, {"loss": 1.0})])
    both(2, {"loss": 2.0})
    both.close()
    with pytest.raises(InputError, match="no"):
        logs.Loggers(["three", "bad"], tmp_path, [])
    assert [one.closed for one in opened] == [True, True, True]
    assert opened[0].entries == opened[1].entries == [(1, {"loss": 1.0}), (2, {"loss": 2.0})]


@pytest.mark.slow  # a process of its own, which compiles
def test_wandb_after_a_kill(tmp_path):
    """What was logged before it is there, and once, when the run has gone on to its end."""
    available("wandb")
    code = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from small_runs import trained
from maml_jax.training import metrics
append = metrics.Log.append
def append_and_die(log, record):
    append(log, record)
    if record["update"] == 9:
        os.kill(os.getpid(), signal.SIGKILL)
metrics.Log.append = append_and_die
trained({run!r}, updates_per_dispatch=3, checkpoint_every=6, log=("wandb",))
"""
    run = tmp_path / "run"
    code = code.format(tests=str(Path(__file__).parent), run=str(run))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    resumed(run)
    assert found("wandb", run) == expected(run)
