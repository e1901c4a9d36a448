"""The interface of data sets and task sources: batches of episodes, reprs, fingerprints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maml_jax import registry
from maml_jax.data import LabelledSet, TaskSource, from_arrays, load
from maml_jax.errors import InputError
from maml_jax.losses import mean_squared_error, softmax_cross_entropy

LABELS = np.repeat(np.arange(10), 6)


def images(in_memory=None):
    x = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
    return LabelledSet(
        name="noise",
        examples=x,
        counts=np.full(10, 6, np.int32),
        class_names=tuple("abcdefghij"),
        splits={"train": np.arange(6), "val": np.array([6]), "test": np.array([7, 8, 9])},
        in_memory=in_memory,
    )


def small(kind):
    """A data set of each kind, without files."""
    if kind in ("sequences", "sinusoid"):
        return load(kind)
    return images() if kind == "images" else from_arrays(np.ones((60, 3)), LABELS, name="ones")


KINDS = ("images", "vectors", "sequences", "sinusoid")


@pytest.mark.parametrize("in_memory", [None, 0])
def test_a_batch_is_the_episodes_of_split_keys(in_memory):
    source = images(in_memory).tasks("train", ways=3, shots=1, queries=2)
    key = jax.random.key(1)
    batch = source.batch(key, 4)
    assert batch.support.x.shape == (4, 3, 4, 4, 1)
    items = source.items(jax.random.split(key, 4))
    sample = jax.jit(source.sample)
    for n in range(4):
        episode = sample(source.store, jax.tree.map(lambda leaf, n=n: leaf[n], items))
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(episode), strict=True):
            assert isinstance(a, jax.Array)
            np.testing.assert_array_equal(a[n], b)
    again = source.batch(jax.random.PRNGKey(1), 4)  # the older kind of key
    jax.tree.map(np.testing.assert_array_equal, again, batch)


@pytest.mark.parametrize("kind", [*KINDS, "fetched"])
def test_a_second_batch_compiles_nothing(kind):
    data = images(in_memory=0) if kind == "fetched" else small(kind)
    keys = jax.random.split(jax.random.key(0))
    data.tasks("train", queries=2).batch(keys[0], 3)
    source = data.tasks("train", queries=2)  # the same tasks asked for again
    with jax.no_tracing():
        source.batch(keys[1], 3)


def test_a_batch_can_be_drawn_inside_jit():
    source = images().tasks("train", ways=3, queries=2)
    inside = jax.jit(lambda key: source.batch(key, 2))(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, inside, source.batch(jax.random.key(0), 2))


@pytest.mark.parametrize(
    ("key", "n", "message"),
    [
        (0, 2, "`key` was 0; it must be one random key, such as jax.random.key"),
        (np.zeros(2, np.uint32), 2, "`key` was"),
        (jnp.zeros(2), 2, "`key` was"),
        (None, 0, "`n` was 0; it must be an integer of at least 1"),
    ],
)
def test_other_arguments_of_batch_are_refused(key, n, message):
    key = jax.random.key(0) if key is None else key
    with pytest.raises(InputError, match=message):
        images().tasks("train", queries=2).batch(key, n)
    with pytest.raises(InputError, match="`key` was"):
        images().tasks("train", queries=2).batch(jax.random.split(jax.random.key(0)), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_data_set_keeps_to_the_interface(kind):
    data = small(kind)
    regression = data.kind == "regression"
    assert data.loss is (mean_squared_error if regression else softmax_cross_entropy)
    assert data.outputs(7) == (1 if regression else 7)
    for split in ("train", "all"):
        source = data.tasks(split, shots=2, queries=1)  # five ways
        assert isinstance(source, TaskSource)
        episode = jax.eval_shape(source.sample, source.store, jax.random.key(0))
        count = 2 if regression else 10
        assert episode.support.x.shape == (count, *data.input_shape)
        assert episode.support.y.shape == ((count, 1) if regression else (count,))
        assert episode.query.x.shape[0] == count // 2
        classes = data.labels(split)
        assert (classes is None) is regression
        assert regression or data.sizes()[split].classes == classes
    with pytest.raises(InputError, match="`split` was 'tset'"):
        data.tasks("tset")
    with pytest.raises(InputError, match="`split` was 'tset'"):
        data.labels("tset")


@pytest.mark.parametrize(
    ("kind", "of_set", "of_tasks"),
    [
        (
            "images",
            "<noise: images, each input 4×4×1; train 6 classes, 36 images; val 1 class, 6 images; "
            "test 3 classes, 18 images; all 10 classes, 60 images>",
            "<TaskSource: noise, train split of 6 classes: 5-way 1-shot, 2 queries a class, each "
            "input 4×4×1; on the device>",
        ),
        (
            "sequences",
            "<sequences: sequences, each input 24×2; train 1024 classes; val 256 classes; "
            "test 512 classes; all 1792 classes>",
            "<TaskSource: sequences, train split of 1024 classes: 5-way 1-shot, 2 queries a class, "
            "each input 24×2; on the device>",
        ),
        (
            "sinusoid",
            "<sinusoid: regression, each input 1>",
            "<TaskSource: sinusoid: 1 support points, 2 query points; on the device>",
        ),
    ],
)
def test_reprs_are_one_line_of_shapes(kind, of_set, of_tasks):
    data = small(kind)
    assert repr(data) == of_set
    assert repr(data.tasks("train", queries=2)) == of_tasks
    table = data._repr_html_()
    assert table.startswith("<table><caption>")
    assert table.count("<tr>") == (0 if kind == "sinusoid" else 5)
    if kind == "images":
        assert "<tr><td>test</td><td>3</td><td>18</td></tr>" in table
        assert "fetched from the host" in repr(images(0).tasks("train", queries=2))


def test_names_are_escaped_in_html():
    table = from_arrays(np.ones((60, 3)), LABELS, name="<b>&")._repr_html_()
    assert "<caption>&lt;b&gt;&amp;: vectors" in table


def test_the_folder_is_the_register():
    ours = {"cifar-fs", "fc100", "glyphs", "mini-imagenet", "mnist"}
    ours |= {"omniglot", "sequences", "sinusoid"}
    assert set(registry.names("data")) == ours


@pytest.mark.parametrize("name", ["sequences", "sinusoid"])
def test_curves_refuse_options_of_images(name):
    for options in ({"image_size": 8}, {"channels": 1}, {"class_split": "x.json"}):
        [[option, value]] = options.items()
        message = f"`data` was '{name}', whose examples are no images .*: leave out `{option}` "
        with pytest.raises(InputError, match=message + rf"\(it was {value}\)"):
            load(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "`image_size` was 0"),
        ({"channels": 2}, "`channels` was 2; it may be 1 or 3"),
        ({"split_seed": -1}, "`split_seed` was -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        load("glyphs", **options)


def test_fingerprints_are_those_of_older_runs():
    """A run refuses to resume on other data; these are what earlier versions wrote."""
    assert load("sinusoid").fingerprint() == {
        "amplitude": [0.1, 5.0],
        "phase": [0.0, 3.141592653589793],
        "x": [-5.0, 5.0],
    }
    assert load("sequences").fingerprint() == {
        "classes": {"train": 1024, "val": 256, "test": 512},
        "times": 24,
        "harmonics": 3,
        "noise": 0.1,
    }
    data = LabelledSet(
        name="ramp",
        examples=np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3, 1),
        counts=np.array([1, 2, 1], np.int32),
        class_names=("a", "b", "c"),
        splits={"train": np.array([1]), "val": np.array([0]), "test": np.array([2])},
    )
    assert data.fingerprint() == {
        "classes": {"train": 1, "val": 1, "test": 1},
        "images": 4,
        "image_shape": [3, 3, 1],
        "rotate": False,
        "sha256_images": "5d7e2d9b1dcbc85e7c890036a2cf2f9fe7b66554f2df08cec6aa9c0a25c99c21",
        "sha256_splits": "a11c9f981c576855de0a1006f705a6a8906eeac868ee5c8b4a3d8cf96bfe4953",
    }
