"""Episodes: what must hold for each of many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maml_jax.data.labelled import LabelledSet
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.errors import InputError


def tagged(rotate=False, counts=(), in_memory=None):
    """Nine classes of six images; a pixel each tells class and image, a corner which way is up."""
    images = np.zeros((9, 6, 4, 4, 1), np.uint8)
    images[:, :, 1:3, 1:3, 0] = np.arange(9)[:, None, None, None] + 1
    images[:, :, 0, 0, 0] = 100 + np.arange(6)
    counts = np.array(counts or [6] * 9, np.int32)
    return LabelledSet(
        name="tagged",
        examples=np.concatenate([of[:n] for of, n in zip(images, counts, strict=True)]),
        counts=counts,
        class_names=tuple("abcdefghi"),
        splits={"train": np.arange(5), "val": np.array([5]), "test": np.array([6, 7, 8])},
        rotate=rotate,
        in_memory=in_memory,
    )


def draw(data, n=300, **shape):
    source = data.tasks("train", **({"ways": 3, "shots": 2, "queries": 3} | shape))
    keys = jax.random.split(jax.random.key(0), n)
    episodes = jax.jit(jax.vmap(source.sample, in_axes=(None, 0)))(source.store, keys)
    return jax.tree.map(np.asarray, episodes)


def tags(batch):
    """Class and image of every example."""
    pixels = np.round(batch.x[..., 0] * 255).astype(int)
    return pixels[..., 1, 1] - 1, pixels.max((-2, -1)) - 100


def test_nothing_repeats_and_labels_are_consistent():
    episodes = draw(tagged())
    for t in range(300):
        support, query = (jax.tree.map(lambda leaf, t=t: leaf[t], part) for part in episodes)
        classes, images = (
            np.concatenate(pair) for pair in zip(tags(support), tags(query), strict=True)
        )
        labels = np.concatenate([support.y, query.y])
        assert len(set(zip(classes, images, strict=True))) == 15  # no image twice
        assert len(set(zip(classes, labels, strict=True))) == 3  # one label a class
        assert np.bincount(support.y).tolist() == [2, 2, 2]
        assert np.bincount(query.y).tolist() == [3, 3, 3]
        assert classes.max() < 5  # the train split only


def test_labels_by_class_are_the_same_in_every_episode():
    data = tagged(rotate=True)
    assert data.labels("train") == 20
    source = data.tasks("train", ways=3, shots=2, queries=3, by_class=True)
    keys = jax.random.split(jax.random.key(0), 300)
    episodes = jax.jit(jax.vmap(source.sample, in_axes=(None, 0)))(source.store, keys)
    corners = ((0, 0), (3, 0), (3, 3), (0, 3))  # where counter-clockwise turns bring the mark
    for batch in jax.tree.map(np.asarray, episodes):
        classes, _ = tags(batch)
        marks = np.stack([batch.x[..., i, j, 0] for i, j in corners])
        np.testing.assert_array_equal(batch.y, 4 * classes + marks.argmax(0))


def test_classes_labels_and_images_are_uniform():
    episodes = draw(tagged(), n=4000)
    classes, images = tags(episodes.support)
    # Each (class, label) pair: 4000 · 2 shots / 5 classes = 1600 for a label; five deviations of
    # a count of tasks, doubled by the shots, are 2·5·√(4000·0.2·0.8) = 253.
    for label in range(3):
        counts = np.bincount(classes[episodes.support.y == label], minlength=5)
        assert np.abs(counts - 1600).max() < 253
    assert np.abs(np.bincount(images.ravel(), minlength=6) - 4000).max() < 5 * 4000**0.5


def test_rotation_turns_a_whole_class_and_every_way():
    episodes = draw(tagged(rotate=True))
    pixels = np.concatenate([episodes.support.x, episodes.query.x], 1)[..., 0] * 255
    corners = np.stack(
        [pixels[..., 0, 0], pixels[..., 0, -1], pixels[..., -1, -1], pixels[..., -1, 0]]
    )
    assert ((corners > 99).sum(0) == 1).all()
    turn = corners.argmax(0)
    labels = np.concatenate([episodes.support.y, episodes.query.y], 1)
    for label in range(3):
        of_class = turn[labels == label].reshape(300, 5)
        assert (of_class == of_class[:, :1]).all()
    assert np.bincount(turn.ravel()).min() > 300 * 15 / 4 * 0.8


def test_classes_with_fewer_images_use_only_those():
    episodes = draw(tagged(counts=[5, 6, 5, 6, 5, 6, 6, 6, 6]))
    for part in episodes:
        classes, images = tags(part)
        assert images[classes % 2 == 0].max() == 4


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"ways": 6}, "`ways` was 6; the train split of tagged has 5 classes"),
        ({"ways": 1}, "`ways` was 1"),
        ({"shots": 0}, "`shots` was 0"),
        ({"queries": -1}, "`queries` was -1"),
        ({"shots": 3, "queries": 4}, r"`shots` \+ `queries` was 3 \+ 4; a class of tagged has 6"),
    ],
)
def test_impossible_episodes_are_refused(shape, message):
    with pytest.raises(InputError, match=message):
        draw(tagged(), **shape)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match=r"`split` was 'tset' \(did you mean 'test'\?\)"):
        tagged().tasks("tset", ways=2, shots=1, queries=1)


def test_splits_that_leak_are_refused():
    with pytest.raises(InputError, match="held 'b' twice"):
        LabelledSet(
            name="x",
            examples=np.zeros((6, 4, 4, 1), np.uint8),
            counts=np.array([2, 2, 2]),
            class_names=("a", "b", "c"),
            splits={"train": np.array([0, 1]), "test": np.array([1, 2])},
        )


def test_all_classes_are_a_split_too():
    data = tagged()
    assert data.labels("all") == 9
    source = data.tasks("all", ways=9, shots=1, queries=1)
    classes, _ = tags(source.batch(jax.random.key(0), 1).support)
    assert sorted(classes[0]) == list(range(9))


@pytest.mark.parametrize(
    ("split", "rotate"), [("train", True), ("train", False), ("test", True), ("all", False)]
)
def test_tasks_that_are_fetched_are_those_on_the_device(split, rotate):
    counts = [5, 6, 5, 6, 5, 6, 6, 6, 6]
    shape = {"ways": 3, "shots": 2, "queries": 3}
    near, far = (tagged(rotate, counts, limit).tasks(split, **shape) for limit in (None, 0))
    assert near.load is None
    assert far.store is None
    keys = jax.random.split(jax.random.key(0), (4, 5))
    expected, found = (
        jax.jit(jax.vmap(jax.vmap(source.sample, (None, 0)), (None, 0)))(
            source.store, source.items(keys)
        )
        for source in (near, far)
    )
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sinusoids_are_sinusoids():
    episodes = Sinusoid().tasks("train", shots=10, queries=5).batch(jax.random.key(0), 500)
    (x, y), (x_query, y_query) = jax.tree.map(lambda leaf: np.float64(leaf[..., 0]), episodes)
    # y = a·sin x + b·cos x has two unknowns: fit them to the support set, predict the query set.
    for t in range(500):
        design = np.stack([np.sin(x[t]), np.cos(x[t])], 1)
        (a, b), *_ = np.linalg.lstsq(design, y[t], rcond=None)
        predicted = a * np.sin(x_query[t]) + b * np.cos(x_query[t])
        np.testing.assert_allclose(predicted, y_query[t], atol=1e-4)
        assert 0.1 <= np.hypot(a, b) <= 5
        assert 0 <= np.arctan2(-b, a) <= np.pi
    assert x.min() < -4.9
    assert x.max() > 4.9


def test_sinusoid_tasks_have_the_asked_shape():
    source = Sinusoid().tasks("train", ways=2, shots=10, queries=7)
    episode = jax.eval_shape(source.sample, source.store, jax.random.key(0))
    assert jax.tree.map(jnp.shape, episode) == (((10, 1), (10, 1)), ((7, 1), (7, 1)))
