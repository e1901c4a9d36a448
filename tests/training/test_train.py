"""`mj.train`: what the program runs, as a function."""

import threading

import jax
import numpy as np
import optax
import pytest
from problems import Compilations, perceptron
from small_runs import SMALL, assert_same_bits, leaves, trained

import maml_jax as mj
from maml_jax.cli import main
from maml_jax.data import TaskSource
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.errors import InputError
from maml_jax.training import metrics, runs
from maml_jax.training.build import build
from maml_jax.training.loop import TrainingError
from maml_jax.training.schedule import outer_optimizer
from maml_jax.training.train import train
from maml_jax.training.updates import Block, initial_state, make_updates
from maml_jax.types import Batch, Episode


@pytest.fixture(scope="module")
def problem():
    return build(SMALL)


def train_small(problem, **options):
    options = {"updates": 6, "updates_per_dispatch": 2, "tasks_per_update": 2} | options
    tasks = options.pop("tasks", None) or runs.training_tasks(SMALL, problem.data)
    return train(problem.learner, problem.params, tasks, progress=False, **options)


def test_it_is_what_the_program_runs(problem, whole):
    meta, log = train_small(problem, updates=12, optimizer=outer_optimizer(SMALL))
    assert_same_bits(meta, runs.restore(whole).state.meta)
    assert log == [entry for entry in metrics.read(whole) if "validation" not in entry]


def test_bits_do_not_depend_on_the_dispatches(problem):
    source, optimizer = runs.training_tasks(SMALL, problem.data), outer_optimizer(SMALL)
    run = make_updates(
        problem.learner, source, optimizer, tasks_per_update=2, updates=12, mesh=mj.task_mesh(2)
    )

    def end(*parts):
        start = initial_state(problem.learner, problem.params, optimizer, 0)
        state, totals = jax.tree.map(jax.numpy.array, start), None
        for n in parts:
            state, totals, _ = run(state, totals, Block(None), n)
        return state, totals.means()

    expected = end(7)
    with Compilations() as compiled:
        for parts in ((1, 2, 4), (6, 1)):
            assert_same_bits(end(*parts), expected)
    assert compiled.count <= 1  # for a state that comes from the devices of the mesh


def test_a_callback_sees_each_dispatch_and_may_end_it(problem):
    seen = []

    def callback(update, means, meta):
        seen.append((update, means["loss"], meta))
        return update == 4

    meta, log = train_small(problem, callback=callback)
    assert [(update, loss) for update, loss, _ in seen] == [
        (entry["update"], entry["loss"]) for entry in log
    ]
    assert [update for update, *_ in seen] == [2, 4]
    assert_same_bits(seen[-1][2], meta)
    assert not all(map(np.array_equal, leaves(seen[0][2]), leaves(meta)))  # still as it was
    all_the_way, _ = train_small(problem)
    first, _ = train_small(problem, updates=4, optimizer=optax.adam(1e-3))
    assert_same_bits(first, meta)  # without a schedule, it is the same training, ended
    assert not all(map(np.array_equal, leaves(all_the_way), leaves(meta)))


def test_the_parameters_that_it_starts_from_are_left_alone(problem):
    before = [leaf.copy() for leaf in leaves(problem.params)]
    train_small(problem, updates=1)
    assert_same_bits(problem.params, before)


def poisoned_source(problem):
    """Every task has a point at infinity, if its key is even."""
    source = runs.training_tasks(SMALL, problem.data)

    def sample(store, key):
        episode = source.sample(store, key)
        odd = jax.random.key_data(key)[-1] % 2
        y = jax.numpy.where(odd, episode.query.y, np.inf)
        return episode._replace(query=episode.query._replace(y=y))

    return TaskSource(source.store, sample)


def test_an_update_that_is_not_finite_stops_it_with_what_was_good(problem):
    tasks = poisoned_source(problem)
    with pytest.raises(TrainingError, match=r"the loss of update \d, .*'skip'") as stopped:
        train_small(problem, tasks=tasks, updates=20)
    assert all(np.isfinite(leaf).all() for leaf in leaves(stopped.value.meta))
    meta, log = train_small(problem, tasks=tasks, updates=20, nonfinite="skip")
    assert all(np.isfinite(leaf).all() for leaf in leaves(meta))
    assert 0 < log[-1]["skipped"] < 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "`updates` was 0"),
        ({"tasks_per_update": 0}, "`tasks_per_update` was 0"),
        ({"updates_per_dispatch": 0}, "`updates_per_dispatch` was 0"),
        ({"seed": -1}, "`seed` was -1"),
        ({"chunk": 0}, "`chunk` was 0"),
        ({"nonfinite": "ignore"}, "`nonfinite` was 'ignore'"),
        ({"tasks": Sinusoid()}, "`tasks` was a Sinusoid; it must be a source of tasks"),
    ],
)
def test_bad_arguments_are_refused(problem, options, message):
    with pytest.raises(InputError, match=message):
        train_small(problem, **options)


class Bar:
    """Stands for tqdm, and notes what it is told."""

    def __init__(self, **_):
        self.told = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n):
        self.told.append(n)

    def set_postfix_str(self, text):
        self.told.append(text)

    def set_postfix(self, shown, refresh):
        self.told.append(sorted(shown))


def test_the_bar_says_that_it_compiles_and_moves_from_the_first_update_on(problem, monkeypatch):
    bar = Bar()
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **_: bar)
    tasks = runs.training_tasks(SMALL, problem.data)
    train(problem.learner, problem.params, tasks, updates=12, updates_per_dispatch=10)
    assert bar.told == ["compiling", 1, "", 2, 4, 3, ["loss"], 2, ["loss"]]


def test_without_tqdm_it_trains_and_says_so(problem, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    tasks = runs.training_tasks(SMALL, problem.data)
    train(problem.learner, problem.params, tasks, updates=2, tasks_per_update=2)
    assert "no progress bar: tqdm is not installed" in caplog.text


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_the_program_trains_in_a_thread(whole, tmp_path):
    assert in_a_thread(lambda: trained(tmp_path / "run")).ended == "done"
    assert_same_bits(runs.restore(tmp_path / "run").state, runs.restore(whole).state)
    command = ["train", "--recipe", "sinusoid", "--hidden", "4", "--tasks", "2", "--updates", "2"]
    command += ["--validation-tasks", "5", "--out", str(tmp_path / "other")]
    assert in_a_thread(lambda: main(command)) == 0


def test_a_learner_and_tasks_of_ones_own():
    """Nothing but the interface is needed: a pure function and a sampler."""
    params, apply = perceptron(features=1, outputs=1)
    learner = mj.maml(apply, 0.05, loss=mj.losses.mean_squared_error)

    def sample(_, key):
        slope, *keys = jax.random.split(key, 3)
        x, z = (jax.random.normal(key, (8, 1)) for key in keys)
        slope = jax.random.normal(slope)
        return Episode(Batch(x, slope * x), Batch(z, slope * z))

    options = {"updates": 120, "tasks_per_update": 8, "progress": False, "updates_per_dispatch": 40}
    _, log = train(learner, params, TaskSource(None, sample), optimizer=optax.adam(0.05), **options)
    assert [entry["update"] for entry in log] == [40, 80, 120]
    assert log[-1]["loss"] < log[0]["loss"] / 2
