"""The figures show what they should: by what the data are, and what was predicted."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from problems import classification, conv4, perceptron

import maml_jax as mj
from maml_jax.data.sets.sequences import Sequences
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.errors import InputError
from maml_jax.training import metrics
from maml_jax.training.plots import BAD, GOOD, plot_curve, plot_episode


def flat(params_and_apply):
    params, apply = params_and_apply
    return mj.maml(lambda p, x: apply(p, x.reshape(len(x), -1)), 0.3, 2), params


def drawn(figure):
    """That a picture can be made of it, without pyplot's knowing of it."""
    figure.canvas.draw()
    assert matplotlib._pylab_helpers.Gcf.get_all_fig_managers() == []
    return figure


def test_images_have_a_column_for_each_class_and_predictions_in_colour():
    params, apply = conv4(filters=2)
    learner = mj.maml(apply, 0.4, 2)
    episode = classification(shots=2, queries=6, size=(28, 28, 1))
    shuffled = np.random.default_rng(0).permutation(18)
    query = mj.Batch(episode.query.x[shuffled], episode.query.y[shuffled])
    figure = drawn(plot_episode(learner, params, mj.Episode(episode.support, query)))
    panels = np.array(figure.axes).reshape(2 + 2 * 4, 3)
    assert [axes.get_title() for axes in panels[0]] == ["class 0", "class 1", "class 2"]
    fast = jax.jit(learner.adapt)(params, episode.support)
    predicted = np.asarray(learner.predict(fast, query.x).argmax(-1))
    for label in range(3):
        rows = np.flatnonzero(query.y == label)[:4]
        for axes, i in zip(panels[6:, label], rows, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), query.x[i, :, :, 0])
            assert axes.get_title() == f"says {predicted[i]}"
            assert axes.title.get_color() == (GOOD if predicted[i] == label else BAD)
    right = 100 * (predicted == query.y).mean()
    assert panels[6, 0].get_ylabel() == f"query,\nafter 2\nsteps:\n{right:.0f} % right"


def test_classes_of_different_sizes_leave_panels_empty():
    learner, params = flat(perceptron())
    episode = classification()
    few = mj.Batch(episode.support.x[1:], episode.support.y[1:])
    figure = drawn(plot_episode(learner, params, mj.Episode(few, episode.query)))
    panels = np.array(figure.axes).reshape(2 + 2 * 2, 3)
    assert [axes.axison for axes in panels[1]] == [False, True, True]


def test_sequences_are_paths():
    tasks = Sequences().tasks("test", ways=3, shots=1, queries=2)
    episode = tasks.sample(tasks.store, jax.random.key(0))
    learner, params = flat(perceptron(features=48))
    figure = drawn(plot_episode(learner, params, episode, steps=1))
    line = figure.axes[0].lines[0]
    np.testing.assert_array_equal(np.stack(line.get_data(), 1), episode.support.x[0])


def regression(features):
    params, apply = perceptron(features=features, outputs=1)
    return mj.maml(apply, 0.01, loss=mj.losses.mean_squared_error), params


def test_regression_is_a_curve_after_0_1_and_all_steps():
    learner, params = regression(1)
    episode = Sinusoid().tasks("test", ways=2, shots=5, queries=20).sample(None, jax.random.key(0))
    axes = drawn(plot_episode(learner, params, episode, steps=3)).axes[0]
    labels = ["the task", "support", "0 steps", "1 step", "3 steps"]
    assert [line.get_label() for line in axes.lines] == labels
    x, y = axes.lines[-1].get_data()
    fast = jax.jit(learner.adapt, static_argnums=2)(params, episode.support, 3)
    expected = learner.predict(fast, jnp.asarray(x)[:, None])[:, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    assert (np.diff(x) > 0).all()


def test_regression_from_several_numbers_is_predictions_over_targets():
    learner, params = regression(6)
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    batch = mj.Batch(jnp.asarray(x), jnp.asarray(x[:, :1]))
    axes = drawn(plot_episode(learner, params, mj.Episode(batch, batch))).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), x[:, 0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("target", "prediction")


def test_what_cannot_be_drawn_is_refused():
    learner, params = regression(1)
    episode = Sinusoid().tasks("test", ways=2, shots=5, queries=5).sample(None, jax.random.key(0))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), episode)
    with pytest.raises(InputError, match="one task, without a task axis"):
        plot_episode(learner, params, several)
    batch = mj.Batch({"a": episode.query.x, "b": episode.query.x}, episode.query.y)
    with pytest.raises(InputError, match="not single arrays"):
        plot_episode(learner, params, mj.Episode(batch, batch))
    with pytest.raises(InputError, match="`log` was empty"):
        plot_curve([])


def test_the_curve_of_a_log_is_its_numbers():
    log = [{"update": n, "loss": 1 / n, "accuracy": 1 - 1 / n} for n in (1, 2, 4)]
    axes = drawn(plot_curve(log)).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_data(), [[1, 2, 4], [0, 50, 75]])
    assert axes.get_ylabel() == "accuracy, %"
    log = [{"update": 1, "loss": 0.5}, {"update": 2, "loss": None}]
    axes = drawn(plot_curve(log)).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.5, np.nan])
    assert axes.get_yscale() == "log"


def test_the_curve_of_a_run_has_its_validations(whole):
    axes = drawn(plot_curve(str(whole))).axes[0]
    assert axes.get_title() == "sinusoid: maml"
    validations = [e for e in metrics.read(whole) if "validation" in e]
    line = axes.containers[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [e["update"] for e in validations])
    np.testing.assert_allclose(line.get_ydata(), [e["validation"]["loss"] for e in validations])
