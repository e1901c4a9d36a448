"""Scores against a Python loop over tasks, and what they say of themselves."""

import jax
import numpy as np
import pytest
from problems import all_but_slow, classification, conv4, perceptron

import maml_jax as mj
from maml_jax.batching import devices
from maml_jax.data import TaskSource
from maml_jax.data.sets.sequences import Sequences
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.errors import InputError
from maml_jax.losses import accuracy
from maml_jax.training.evaluate import Evaluator, Scores, evaluate, evaluation_key
from maml_jax.training.metrics import confidence_95


@pytest.fixture(scope="module")
def images():
    """Five episodes of pictures in two shots, and a source that draws among them."""
    episodes = classification(tasks=5, size=(28, 28, 1))
    params, apply = conv4(filters=2)
    learner = mj.maml(apply, 0.4, 2)

    def sample(store, key):
        return jax.tree.map(lambda leaf: leaf[jax.random.randint(key, (), 0, 5)], store)

    return learner, learner.init(params), TaskSource(episodes, sample)


def drawn(tasks, count, seed):
    """The episodes that `evaluate` draws, one after another."""
    at_once = min(count, 50)
    key = jax.random.fold_in(jax.random.key(seed), 4)
    keys = jax.random.split(key, -(-count // at_once) * at_once)[:count]
    return [tasks.sample(tasks.store, key) for key in keys]


@pytest.mark.parametrize("transductive", all_but_slow([True, False], False))
def test_it_is_the_mean_over_tasks_that_are_learned_one_by_one(images, transductive):
    learner, meta, tasks = images
    scores = evaluate(learner, meta, tasks, count=3, transductive=transductive, seed=7)
    classify = jax.jit(learner.classify, static_argnames=("transductive", "steps"))
    for row, episode in enumerate(drawn(tasks, 3, 7)):
        for steps in range(3):
            outputs = classify(
                meta, episode.support, episode.query.x, transductive=transductive, steps=steps
            )
            loss, right = learner.loss(outputs, episode.query.y), accuracy(outputs, episode.query.y)
            np.testing.assert_allclose(scores.loss_per_task[row, steps], loss, rtol=1e-5)
            np.testing.assert_allclose(scores.accuracy_per_task[row, steps], right)
    last = evaluate(
        learner, meta, tasks, count=3, transductive=transductive, seed=7, per_step=False
    )
    np.testing.assert_allclose(last.loss_per_task, scores.loss_per_task[:, -1:], rtol=1e-5)


def test_numbers_of_the_scores(images):
    scores = evaluate(*images, count=4, steps=1)
    assert scores.tasks == 4
    assert scores.accuracy == pytest.approx(scores.accuracy_per_task[:, -1].mean())
    assert scores.accuracy_ci95 == pytest.approx(confidence_95(scores.accuracy_per_task[:, -1]))
    assert scores.loss == pytest.approx(scores.loss_per_task[:, -1].mean())
    assert scores.loss_per_step.shape == scores.accuracy_per_step_ci95.shape == (2,)
    nearest = scores.to_json()["nearest_neighbour"]["accuracy"]
    assert nearest == pytest.approx(scores.nearest_neighbour_per_task.mean())


def test_the_seed_and_the_count_decide_the_tasks(images):
    one, same, other = (evaluate(*images, count=6, steps=0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.loss_per_task, same.loss_per_task)
    assert not np.array_equal(one.loss_per_task, other.loss_per_task)


@pytest.mark.parametrize("count", [7, 53])
def test_all_cores_share_the_tasks_and_change_nothing(images, monkeypatch, count):
    """7 over two devices leave one place to spare; 53 are two dispatches.

    Weights that are sharded, as for models that no device holds, stay as they are.
    """
    learner, meta, tasks = images
    alone = evaluate(learner, meta, tasks, count=count, steps=0)
    monkeypatch.setattr(devices._Choice, "all_cores", True)
    shared = evaluate(learner, meta, tasks, count=count, steps=0)
    np.testing.assert_allclose(shared.loss_per_task, alone.loss_per_task, rtol=1e-6)
    seen = []
    whole = jax.shard_map
    monkeypatch.setattr(
        jax, "shard_map", lambda f, **how: seen.append(how["mesh"]) or whole(f, **how)
    )
    evaluator = Evaluator(learner, tasks, steps=0)
    assert [mesh.size for mesh in seen] == [2]
    placed = mj.shard(meta, mj.sharded_mesh(tasks=1, fsdp=2))
    sharded = evaluator(placed, tasks=count, key=evaluation_key(0))
    np.testing.assert_allclose(sharded.loss_per_task, alone.loss_per_task, rtol=1e-6)


def test_regression_has_no_words_of_classes():
    params, apply = perceptron(features=1, outputs=1)
    learner = mj.maml(apply, 0.01, loss=mj.losses.mean_squared_error)
    done = []
    tasks = Sinusoid().tasks("test", ways=2, shots=5, queries=5)
    scores = evaluate(learner, params, tasks, count=60, progress=done.append)
    assert sum(done) == 60
    assert scores.accuracy is scores.accuracy_ci95 is scores.accuracy_per_step is None
    assert scores.nearest_neighbour_per_task is None
    said = scores.to_json()
    assert set(said) == {"loss", "loss_ci95", "loss_per_step", "loss_per_step_ci95"}
    assert repr(scores).startswith("loss ")
    assert repr(scores).endswith(" over 60 tasks (95 % interval)")


def test_scores_read_as_a_paper_says_them():
    right = np.array([[0.0, 0.96], [0.0, 0.98]] * 300)
    scores = Scores(loss_per_task=1 - right, accuracy_per_task=right)
    assert repr(scores) == "accuracy 97.0 ± 0.1 % over 600 tasks (95 % interval)"
    tasks = "over 600 tasks (95 % interval)"
    assert repr(Scores(loss_per_task=10 * right)) == f"loss 9.7000 ± 0.0080 {tasks}"
    assert repr(Scores(loss_per_task=1e4 * right)) == f"loss 9700.0 ± 8.0 {tasks}"
    assert repr(Scores(loss_per_task=right[:1])) == "loss 0.96 ± nan over 1 tasks (95 % interval)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`count` was 0"),
        ({"steps": -1}, "`steps` was -1"),
        ({"seed": "a"}, "`seed` was 'a'"),
        ({"progress": False}, "`progress` was False; it must be a function"),
    ],
)
def test_bad_arguments_are_refused(images, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(*images, **options)
    with pytest.raises(InputError, match="`tasks` was a Sequences; it must be a source of tasks"):
        evaluate(*images[:2], Sequences())
