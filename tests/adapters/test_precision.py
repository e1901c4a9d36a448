"""In how many bits a network computes: read in its programs, and felt in its gradients."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from problems import all_but_slow, classification, conv4, distance

import maml_jax as mj
from maml_jax.errors import InputError
from maml_jax.training.build import build
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe

WORDS = {"float32": "HIGHEST", "tensorfloat32": "HIGH"}


def meta_gradient(apply, differentiate="mixed"):
    return jax.jit(mj.maml(apply, 0.1, 2, differentiate=differentiate).value_and_grad)


def images():
    return classification(size=(28, 28, 1))


@pytest.mark.parametrize("precision", WORDS)
@pytest.mark.parametrize("differentiate", all_but_slow(["mixed", "reverse"], "reverse"))
def test_every_product_of_a_meta_gradient_on_an_accelerator_is_so(precision, differentiate):
    params, apply = conv4()
    step = meta_gradient(mj.in_precision(apply, precision), differentiate)
    program = step.trace(params, images()).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) > 20
    wanted = f"precision = [{WORDS[precision]}, {WORDS[precision]}]"
    assert all(wanted in line for line in products)
    assert "stablehlo.convolution" not in program


def test_by_default_it_is_as_jax_is_set():
    params, apply = conv4()
    assert mj.in_precision(apply, "default") is apply
    program = meta_gradient(apply).trace(params, images()).lower(lowering_platforms=("cuda",))
    assert "HIGH" not in program.as_text()


def test_bfloat16_multiplies_nothing_in_float32_and_gives_float32():
    params, apply = conv4()
    step = meta_gradient(mj.in_precision(apply, "bfloat16"))
    program = step.trace(params, images()).lower(lowering_platforms=("cuda",)).as_text()
    products = re.findall(r"stablehlo.dot_general.*: \((.*)\) ->", program)
    assert len(products) > 20
    assert all(types.count("bf16") == 2 for types in products)
    result = step(params, images())
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype("float32")}


@pytest.mark.slow  # it compiles large networks
def test_gradients_in_fewer_bits_are_near():
    params, apply = conv4()
    exact = meta_gradient(apply)(params, images())
    near = meta_gradient(mj.in_precision(apply, "bfloat16"))(params, images())
    assert 1e-4 < distance(exact, near) < 0.2
    same = meta_gradient(mj.in_precision(apply, "float32"))(params, images())
    assert distance(exact, same) < 1e-6


@pytest.mark.slow  # it compiles large networks
def test_double_precision_stays(x64):
    params, apply = conv4()
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    episode = images()
    exact = meta_gradient(apply)(params, episode)
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        found = meta_gradient(mj.in_precision(apply, precision))(params, episode)
        assert distance(exact, found) < 1e-12


@pytest.mark.parametrize(
    "model",
    [
        mj.models.Recurrent(2, 8, 3, "gru", rngs=nnx.Rngs(0)),
        mj.models.MLP(4, (8,), 3, rngs=nnx.Rngs(0)),
    ],
)
def test_other_models_compute_in_bfloat16(model):
    params, apply = mj.from_flax(model)
    shape = (6, 4) if isinstance(model, mj.models.MLP) else (6, 5, 2)
    outputs = mj.in_precision(apply, "bfloat16")(params, jnp.ones(shape))
    assert outputs.dtype == jnp.float32
    assert (outputs == outputs.astype(jnp.bfloat16)).all()


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32", "bfloat16"])
def test_a_number_of_python_among_the_weights_stays(precision):
    params = {"scale": 2.0, "shift": jnp.ones(3)}

    def apply(params, x):
        return params["scale"] * x + params["shift"]

    outputs = mj.in_precision(apply, precision)(params, jnp.full((2, 3), 0.5))
    assert outputs.dtype == jnp.float32
    assert (outputs == 2.0).all()


def test_unknown_precision_is_refused():
    with pytest.raises(InputError, match="`precision` was 'tf32'"):
        mj.in_precision(lambda params, x: x, "tf32")


def test_a_run_computes_as_its_config_says():
    config = dataclasses.replace(recipe("sequences"), hidden=(4,), precision="bfloat16")
    problem = build(config)
    x = jnp.ones((2, *problem.data.input_shape))
    program = jax.make_jaxpr(problem.learner.predict)(problem.params, x)
    assert "bf16" in str(program)
    with pytest.raises(InputError, match="`precision` was 'half'"):
        Config(precision="half").check()
