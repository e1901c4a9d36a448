"""The models: by name, by their sizes, by their equations."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import all_but_slow, classification

import maml_jax as mj
from maml_jax import registry
from maml_jax.errors import InputError
from maml_jax.models.layers import Conv
from maml_jax.training.config import Config

# Of each model by name the shape of an example that it takes, and shapes that it refuses.
EXAMPLES = {
    "article-cnn": ((12, 12, 1), [(12, 16, 1), (12, 12), (12,)]),
    "conv4": ((16, 16, 3), [(16, 12, 3), (7, 2), ()]),
    "gru": ((5, 2), [(5,), (12, 12, 1)]),
    "lstm": ((5, 2), [(5,), (12, 12, 1)]),
    "mlp": ((3, 2), []),
    "resnet12": ((16, 16, 1), [(16, 12, 1), (7, 2)]),
}


def build(name, shape):
    config = Config(filters=4, hidden=(6,))
    return registry.find("models", name)(config, shape, 3, nnx.Rngs(0))


def test_every_model_by_name_is_in_the_table():
    assert set(EXAMPLES) == set(registry.names("models"))


@pytest.mark.parametrize(
    "name",
    # ResNet-12 takes long to compile.
    all_but_slow(EXAMPLES, "article-cnn", "conv4", "gru", "mlp"),
)
def test_a_model_by_name_learns_with_all_its_weights(name):
    shape, _ = EXAMPLES[name]
    model = build(name, shape)
    params, apply = mj.from_flax(model)
    episode = classification(ways=3, size=shape)
    assert apply(params, episode.query.x).shape == (6, 3)
    (loss, _), grads = jax.jit(mj.maml(apply, 0.1).value_and_grad)(params, episode)
    assert jnp.isfinite(loss)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    idle = {
        ("".join(f"['{key}']" for key in (*path, "bias")))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, Conv) and module.normalised  # a norm takes their biases away
    }
    for path, gradient in jax.tree.leaves_with_path(grads):
        assert jnp.isfinite(gradient).all()
        assert gradient.any() == (jax.tree_util.keystr(path) not in idle)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_by_name_refuses_other_examples_in_one_line(name):
    for shape in EXAMPLES[name][1]:
        with pytest.raises(InputError, match=f"`model` was '{name}', which takes ") as caught:
            build(name, shape)
        assert str(shape) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


SHAPES_CHECKED = """
import jaxtyping
jaxtyping.install_import_hook(["maml_jax.models", "maml_jax.adapters", "maml_jax.kernels"],
    "beartype.beartype")
import sys
sys.path[:0] = {folders!r}
import jax
import jax.numpy as jnp
import maml_jax as mj
from test_models import EXAMPLES, build

for name, (shape, _) in EXAMPLES.items():
    params, apply = mj.from_flax(build(name, shape))
    for precision in ("default", "bfloat16"):
        call = mj.in_precision(apply, precision)

        def loss(params, x):
            return jnp.square(call(params, x)).sum()

        jax.eval_shape(jax.grad(loss), params, jnp.ones((6, *shape)))
try:
    mj.models.layers.max_pool(jnp.ones((4, 4)))
except jaxtyping.TypeCheckError:
    sys.exit(0)
sys.exit("a wrong shape was not noticed")
"""


@pytest.mark.slow  # every call is checked
def test_the_shapes_in_the_signatures_are_true():
    here = Path(__file__).parent
    code = SHAPES_CHECKED.format(folders=[str(here), str(here.parent)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


MODELS = {
    "conv4": lambda rngs: mj.models.Conv4(3, rngs=rngs),
    "conv4, 84×84 in colour": lambda rngs: mj.models.Conv4(3, 3, 8, "maxpool", 84, rngs=rngs),
    "article": lambda rngs: mj.models.ArticleCNN(3, rngs=rngs),
    "mlp": lambda rngs: mj.models.MLP(784, (32, 16), 3, batch_norm=True, rngs=rngs),
    "gru": lambda rngs: mj.models.Recurrent(2, 6, 3, "gru", rngs=rngs),
    "lstm": lambda rngs: mj.models.Recurrent(2, 6, 3, "lstm", rngs=rngs),
    "resnet12": lambda rngs: mj.models.ResNet12(3, 1, (2, 3, 4, 5), 28, rngs=rngs),
}
SHAPES = dict.fromkeys(MODELS, (28, 28, 1)) | {
    "conv4, 84×84 in colour": (84, 84, 3),
    "gru": (7, 2),
    "lstm": (7, 2),
}
# By hand: kernels, biases, and a scale and bias of each norm.
SIZES = {
    "conv4": (9 * 64 + 3 * 9 * 64 * 64) + 4 * 3 * 64 + 64 * 3 + 3,
    "conv4, 84×84 in colour": (9 * 3 * 8 + 3 * 9 * 8 * 8) + 4 * 3 * 8 + 25 * 8 * 3 + 3,
    "article": (9 * 32 + 32) + (9 * 32 * 64 + 64) + (1600 * 128 + 128) + (128 * 3 + 3),
    "mlp": (784 * 32 + 3 * 32) + (32 * 16 + 3 * 16) + (16 * 3 + 3),
    "gru": 3 * (2 * 6 + 6 * 6 + 6) + (6 * 3 + 3),
    "lstm": 4 * (2 * 6 + 6 * 6 + 6) + (6 * 3 + 3),
    "resnet12": sum(
        9 * (n * m + 2 * m * m) + n * m + 4 * 3 * m for n, m in ((1, 2), (2, 3), (3, 4), (4, 5))
    )
    + (5 * 3 + 3),
}


@pytest.mark.parametrize("name", all_but_slow(MODELS, "conv4", "mlp", "gru"))
def test_models_as_pure_functions(name, x64):
    model = MODELS[name](nnx.Rngs(0))
    params, apply = mj.from_flax(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == SIZES[name]
    x = classification(size=SHAPES[name]).support.x
    both = jax.jit(lambda params, x: (apply(params, x), model(x)))
    outputs, of_the_model = both(params, x)
    np.testing.assert_allclose(outputs, of_the_model, rtol=1e-9)
    # The function is of its arguments alone: other weights give other outputs, and no state stays.
    others, unchanged = both(jax.tree.map(lambda leaf: 2 * leaf, params), x)
    assert not np.allclose(others, outputs)
    np.testing.assert_allclose(unchanged, of_the_model, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: mj.models.Conv4(0, rngs=r), "`ways` was 0"),
        (lambda r: mj.models.Conv4(5, filters=2.5, rngs=r), "`filters` was 2.5"),
        (lambda r: mj.models.Conv4(5, downsample="pool", rngs=r), "`downsample` was 'pool'"),
        (lambda r: mj.models.Conv4(5, 1, 8, "maxpool", 15, rngs=r), "`image_size` was 15"),
        (lambda r: mj.models.ArticleCNN(5, image_size=9, rngs=r), "`image_size` was 9"),
        (lambda r: mj.models.MLP(1, (40, 0), 1, rngs=r), r"`hidden\[1\]` was 0"),
        (lambda r: mj.models.Conv4(5, rngs=r)(jnp.zeros((1, 28, 28, 3))), r"`x` had images of"),
        (lambda r: mj.models.Recurrent(2, 4, 3, "gur", rngs=r), "`cell` was 'gur'"),
        (lambda r: mj.models.Recurrent(2, 4, 3, rngs=r)(jnp.zeros((1, 5))), "`x` had the shape"),
        (lambda r: mj.models.ResNet12(5, 1, (8, 8, 8), rngs=r), "`filters` was"),
        (lambda r: mj.models.ResNet12(5, image_size=12, rngs=r), "`image_size` was 12"),
        (lambda r: mj.models.MLP(4, (4,), 1, rngs=r)(jnp.zeros((2, 3))), "`x` had 3 features"),
    ],
)
def test_bad_sizes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make(nnx.Rngs(0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_networks_by_their_equations(kind, x64):
    params, apply = mj.from_flax(mj.models.Recurrent(2, 3, 4, kind, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    x = rng.normal(size=(2, 5, 2))
    cell, head = params["cell"], params["head"]
    h = c = np.zeros((2, 3))
    for t in range(5):
        i = x[:, t] @ cell["dense_i"]["kernel"] + cell["dense_i"].get("bias", 0)
        r = h @ cell["dense_h"]["kernel"] + cell["dense_h"].get("bias", 0)
        if kind == "gru":
            (ir, iz, n), (hr, hz, hn) = np.split(i, 3, 1), np.split(r, 3, 1)
            update = sigmoid(iz + hz)
            h = (1 - update) * np.tanh(n + sigmoid(ir + hr) * hn) + update * h
        else:
            into, forget, cand, out = np.split(i + r, 4, 1)
            c = sigmoid(forget) * c + sigmoid(into) * np.tanh(cand)
            h = sigmoid(out) * np.tanh(c)
    expected = h @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(apply(params, x), expected, rtol=1e-12)
