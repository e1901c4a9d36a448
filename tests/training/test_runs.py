"""Runs that lose nothing: what stays on disk whatever happens, and what it is worth."""

import dataclasses
import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest
from small_runs import SMALL, assert_same_bits, leaves, resumed, trained

from maml_jax.errors import InputError
from maml_jax.training import metrics, runs
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.evaluate import Scores
from maml_jax.training.loop import TrainingError
from maml_jax.training.metrics import best_validation
from maml_jax.training.recorder import train_run
from maml_jax.training.schedule import outer_optimizer


def test_the_newest_checkpoints_and_the_best_stay(whole):
    best = best_validation(metrics.read(whole))
    assert best in (4, 8, 12)
    assert Checkpoints(whole).updates() == sorted({10, 12, best})
    assert int(runs.restore(whole, checkpoint="best").state.update) == best
    assert int(runs.restore(whole).state.update) == 12


def test_the_best_is_by_accuracy_or_else_by_loss_and_the_first_of_equals():
    def log(name, *values):
        return [{"update": n, "validation": {name: value}} for n, value in enumerate(values)]

    assert best_validation(log("accuracy", 0.5, 0.9, None, 0.9, 0.7)) == 1
    assert best_validation(log("loss", 0.5, 0.1, None, 0.1, 0.7)) == 1
    assert best_validation([{"update": 1, "loss": 0.5}]) is None
    assert best_validation(log("loss", None)) is None


def every_damage(folder):
    """Each way to damage each file of a checkpoint: what it is, and a function that does it."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        yield f"{name} deleted", path.unlink, content, path
        if content:
            yield f"{name} cut", lambda p=path, c=content: p.write_bytes(c[:-1]), content, path
            yield f"{name} emptied", lambda p=path: p.write_bytes(b""), content, path
            for at in {len(content) // 5, len(content) // 2, len(content) * 4 // 5}:
                flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
                yield f"{name} flipped", lambda p=path, c=flipped: p.write_bytes(c), content, path


@pytest.mark.slow  # a checkpoint is read forty times
def test_every_damage_to_every_file_is_recognised(copy, caplog):
    checkpoints = Checkpoints(copy)
    like = runs.restore(copy).state
    expected = checkpoints.restore(like, 10)[0]
    damages = 0
    for what, damage, content, path in every_damage(copy / "checkpoints" / "12"):
        caplog.clear()
        damage()
        state, _ = checkpoints.restore(like)
        assert_same_bits(state, expected)
        assert "checkpoint 12 is damaged" in caplog.text, what
        with pytest.raises(InputError, match="its checkpoint 12 is damaged"):
            checkpoints.restore(like, 12)
        path.write_bytes(content)
        damages += 1
    assert damages >= 40
    assert int(checkpoints.restore(like)[0].update) == 12


def test_a_damaged_checkpoint_costs_the_updates_since_the_one_before(whole, copy, caplog):
    (copy / "checkpoints" / "12" / "manifest.json").unlink()
    log = (copy / "metrics.jsonl").read_bytes()
    assert resumed(copy).ended == "done"
    assert "taking the one before" in caplog.text
    assert_same_bits(runs.restore(copy).state, runs.restore(whole).state)
    assert (copy / "metrics.jsonl").read_bytes() == log


def test_a_run_goes_on_elsewhere(whole, copy, tmp_path):
    """Other tasks together, data elsewhere: the same to rounding, and written down."""
    shutil.rmtree(copy / "checkpoints" / "12")
    resumed(copy, chunk=1, data_dir=tmp_path / "data")
    found = runs.restore(copy)
    assert (found.config.chunk, found.config.data_dir) == (1, tmp_path / "data")
    for one, other in zip(leaves(found.state), leaves(runs.restore(whole).state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_without_a_checkpoint_starts_again(whole, copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="holds no checkpoint yet"):
        runs.restore(copy)
    resumed(copy)
    assert_same_bits(runs.restore(copy).state, runs.restore(whole).state)


def test_half_a_save_is_no_checkpoint(whole, copy):
    checkpoints = copy / "checkpoints"
    (checkpoints / "12").rename(checkpoints / "12.new")
    (checkpoints / "12.new" / "manifest.json").unlink()
    resumed(copy)
    assert_same_bits(runs.restore(copy).state, runs.restore(whole).state)
    assert not list(checkpoints.glob("*.new"))


def test_a_config_that_was_changed_is_not_gone_on_with(copy):
    record = json.loads((copy / "config.json").read_text())
    record["config"]["inner_lr"] = 0.02
    (copy / "config.json").write_text(json.dumps(record))
    for opened in (runs.restore, runs.resume):
        with pytest.raises(InputError, match=r"says inner_lr is 0.02, its checkpoint 0.01"):
            opened(copy)


def test_data_that_was_changed_is_not_gone_on_with(copy, monkeypatch):
    from maml_jax.data.sets.sinusoid import Sinusoid

    monkeypatch.setattr(Sinusoid, "fingerprint", lambda self: {"amplitude": [0.1, 6.0]})
    with pytest.raises(InputError, match=r"other data than .*amplitude was .*5.0.* and is .*6.0"):
        runs.resume(copy)


def test_other_versions_are_told(copy, monkeypatch, caplog):
    monkeypatch.setattr("maml_jax.training.provenance.versions", lambda: {"jax": "0.0"})
    runs.restore(copy)
    assert "may differ in the last bits" in caplog.text


def test_going_on_to_more_updates_is_written_down(copy):
    assert int(resumed(copy, updates=14).state.update) == 14
    assert runs.restore(copy).config.updates == 14
    assert int(resumed(copy).state.update) == 14


def test_two_cannot_train_in_one_folder(copy):
    command = f"from maml_jax.cli import main; exit(main(['train', '--resume', {str(copy)!r}]))"
    with runs.locked(copy):
        other = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, check=False
        )
    assert other.returncode == 2
    assert "in which another process trains now" in other.stderr
    with runs.locked(copy):  # and it is free again
        pass


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(whole, tmp_path, caplog):
    """The limit is on the size of a file, which writers meet as they meet a full disk."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for newer in (10, 12):
        shutil.rmtree(run / "checkpoints" / str(newer), ignore_errors=True)
    kept = Checkpoints(run).updates()
    before = {
        path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()
    }
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with runs.locked(run):
        config, problem, state = runs.resume(run)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        try:
            with pytest.raises(TrainingError, match="cannot be written"):
                train_run(config, run, problem, state, quiet=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caplog.text == ""
    assert Checkpoints(run).updates() == kept
    assert all(path.read_bytes() == content for path, content in before.items())
    resumed(run)
    assert_same_bits(runs.restore(run).state, runs.restore(whole).state)
    assert metrics.read(run) == metrics.read(whole)


def test_a_disk_that_is_nearly_full_is_said_in_one_line(tmp_path, monkeypatch, capfd):
    full = shutil.disk_usage(tmp_path)._replace(free=2**18)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    line = r"262144 bytes are free on the disk, a checkpoint needs \d+. There is none yet"
    with pytest.raises(TrainingError, match=line):
        trained(tmp_path / "run")
    assert capfd.readouterr().err == ""


@pytest.fixture
def poisoned(monkeypatch):
    """Task 3 of updates 5 and 6 has a point at infinity."""
    import maml_jax.data.sets.sinusoid as sinusoid
    from maml_jax.training.updates import task_keys

    bad = [
        jax.random.key_data(key)
        for update in (4, 5)
        for key in task_keys(
            jax.random.key_data(jax.random.fold_in(jax.random.key(0), 1)), update, SMALL.tasks
        )[1:]
    ]
    sample = sinusoid.sample_sinusoid

    def poison(key, shots, queries):
        episode = sample(key, shots, queries)
        hit = sum((jax.random.key_data(key) == one).all() for one in bad)
        y = jax.numpy.where(hit, np.inf, episode.query.y)
        return episode._replace(query=episode.query._replace(y=y))

    monkeypatch.setattr(sinusoid, "sample_sinusoid", poison)


def test_an_update_that_is_not_finite_stops_the_run_at_once(whole, tmp_path, poisoned):
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"the loss of update 5, .* was not finite"):
        trained(run)
    state = runs.restore(run).state
    assert int(state.update) == 4
    assert all(np.isfinite(leaf).all() for leaf in leaves(state))
    assert [entry["update"] for entry in metrics.read(run)] == [2, 4, 4]
    # The same update stops it again, until such updates are to be skipped.
    with pytest.raises(TrainingError, match="update 5"):
        resumed(run)
    state = resumed(run, nonfinite="skip").state
    assert (int(state.update), int(state.skipped)) == (12, 2)
    assert all(np.isfinite(leaf).all() for leaf in leaves(state))
    log = metrics.read(run)
    assert [entry["update"] for entry in log if "validation" not in entry] == [2, 4, 6, 8, 10, 12]
    assert [entry.get("skipped", 0) for entry in log if "validation" not in entry] == [
        *(0, 0, 2, 2, 2, 2)
    ]
    assert log[3]["loss"] is None  # none of its two updates has one


def test_skipped_updates_change_nothing_but_the_count(tmp_path, poisoned):
    run = tmp_path / "run"
    six = trained(run, updates=6, nonfinite="skip").state
    four, _ = Checkpoints(run).restore(six, 4)
    assert_same_bits((four.meta, four.optimizer), (six.meta, six.optimizer))
    assert (int(four.skipped), int(six.update), int(six.skipped)) == (0, 6, 2)


@pytest.mark.parametrize("size", [np.inf, 1e30])  # of which Adam's second moment is infinite
def test_what_overflows_is_not_kept_though_the_loss_is_finite(tmp_path, size):
    run = tmp_path / "run"
    config, problem, state = runs.create(SMALL, run)
    exact = problem.learner.value_and_grad

    def steep(meta, episode, progress):
        values, gradient = exact(meta, episode, progress)
        return values, jax.tree.map(lambda leaf: jax.numpy.full_like(leaf, size), gradient)

    steeper = problem._replace(learner=problem.learner._replace(value_and_grad=steep))
    with pytest.raises(TrainingError, match=r"update 1, .*; the state before it is kept"):
        train_run(config, run, steeper, state, quiet=True)
    assert_same_bits(runs.restore(run).state, runs.create(SMALL, tmp_path / "other")[2])


def test_training_ends_when_validations_get_no_better(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.45, 0.46, 0.3])
    monkeypatch.setattr(Scores, "to_json", lambda _: {"loss": next(scores)})
    run = tmp_path / "run"
    outcome = trained(run, updates=40, patience=2)
    assert outcome.ended == "early"
    assert int(outcome.state.update) == 16  # the best was after 8
    assert int(runs.restore(run, checkpoint="best").state.update) == 8
    # Going on finds that it had ended.
    assert resumed(run).ended == "early"
    assert len([entry for entry in metrics.read(run) if "validation" in entry]) == 4


def test_clipping_and_warming_up():
    config = dataclasses.replace(SMALL, meta_lr=0.5, meta_clip=2.0, warm_up=4, updates=12)
    optimizer = outer_optimizer(config)
    params = {"a": np.zeros(2, np.float32)}
    gradient = {"a": np.array([30.0, 40.0], np.float32)}
    state, sizes = optimizer.init(params), []
    for _ in range(12):
        changes, state = optimizer.update(gradient, state, params)
        sizes.append(float(-changes["a"][0]))
    # Adam of a constant gradient takes steps of the rate: up in 4 updates, down a cosine in 8.
    expected = [0.5 * n / 4 for n in range(4)]
    expected += [0.5 * (1 + np.cos(np.pi * n / 8)) / 2 for n in range(8)]
    np.testing.assert_allclose(sizes, expected, atol=1e-5)
    moments = optax.tree_utils.tree_get(state, "mu")["a"] / (1 - 0.9**12)
    np.testing.assert_allclose(moments, [1.2, 1.6], rtol=1e-5)  # of length 2


def test_a_second_signal_ends_it_at_once(tmp_path):
    """Also while the main thread is in a call that takes a minute, as it is in a dispatch."""
    code = """
import hashlib
from maml_jax.training.interruption import interruption
with interruption() as interrupted:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - start < 15
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopping after this dispatch" in said
    assert "stopped at once" in said


def test_a_new_run_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="`out` was /proc/none/run; it cannot be made"):
        runs.create(SMALL, type(tmp_path)("/proc/none/run"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.create(SMALL, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_the_library_is_silent_when_all_is_well(whole, caplog):
    with caplog.at_level(logging.WARNING, "maml_jax"):
        runs.restore(whole)
    assert caplog.text == ""
