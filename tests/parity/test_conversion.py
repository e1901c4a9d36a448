"""Weights go from Flax to PyTorch and back unchanged, and mean the same network on both sides."""

import jax
import numpy as np
import pytest
import torch
from problems import all_but_slow

from maml_jax.exchange import flatten
from parity.cells import MODELS, Cell, build_inputs
from parity.conversion import tasks_to_torch, to_flax, to_torch


def inputs(name):
    return build_inputs(Cell("fomaml", name, 1), 0)


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_is_exact(name):
    params, layers = inputs(name).params, MODELS[name].flattened
    back = flatten(to_flax(to_torch(params, layers), layers))
    assert back.keys() == flatten(params).keys()
    for path, leaf in flatten(params).items():
        assert back[path].dtype == leaf.dtype
        np.testing.assert_array_equal(back[path], leaf)


@pytest.mark.parametrize("name", all_but_slow(MODELS, "conv4-stride", "mlp", "gru"))
def test_outputs_are_equal(name, x64):
    params, apply, episodes = inputs(name)
    outputs = apply(params, episodes.query.x[0])
    weights = to_torch(params, MODELS[name].flattened)
    expected = MODELS[name].torch(weights, tasks_to_torch(episodes)[0].query_x).numpy()
    assert outputs.dtype == expected.dtype == np.float64
    assert np.linalg.norm(outputs - expected) < 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", ["conv4-maxpool", "article-cnn", "mlp"])
def test_order_of_a_flattened_image_matters(name):
    params, layers = inputs(name).params, MODELS[name].flattened
    with_order, without = to_torch(params, layers), to_torch(params, {})
    changed = {path for path in with_order if not torch.equal(with_order[path], without[path])}
    assert changed == {f"{layer.replace('/', '.')}.weight" for layer in layers}


def test_names_and_layouts():
    params = {
        "conv": {"kernel": np.arange(6.0).reshape(1, 2, 1, 3), "bias": np.arange(3.0)},
        "norm": {"scale": np.arange(3.0), "bias": np.arange(3.0)},
        "head": {"kernel": np.arange(10.0).reshape(5, 2), "bias": np.arange(2.0)},
    }
    shapes = {name: tuple(weight.shape) for name, weight in to_torch(params, {}).items()}
    assert shapes == {
        "conv.weight": (3, 1, 1, 2),
        "conv.bias": (3,),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "head.weight": (2, 5),
        "head.bias": (2,),
    }


def test_unknown_weight_is_refused():
    with pytest.raises(ValueError, match="`cell/gate` was neither a kernel nor a scale nor a bias"):
        to_torch({"cell": {"gate": np.ones(2)}}, {})


@pytest.mark.parametrize("name", ["conv4-stride", "conv4-maxpool", "article-cnn"])
def test_images_have_flat_areas_and_texture(name):
    images = inputs(name).episodes.support.x
    assert (images == 0).mean() > 0.3
    assert len(np.unique(images)) > 500


def test_weights_and_episodes_follow_from_the_seed():
    cell = Cell("maml", "mlp", 1)
    first, again, other = (jax.tree.leaves(build_inputs(cell, seed)[::2]) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first[:-1], other[:-1], strict=True))
