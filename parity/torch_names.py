"""The names that a PyTorch network has for the weights of its counterpart in JAX."""

import copy
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from maml_jax.errors import InputError
from parity.torch_tools import Forward, Weights

Network: TypeAlias = nn.Module | Forward
"""A module, or a function `network(weights, x) -> outputs`."""
Names: TypeAlias = Mapping[str, str]
"""The layers of a PyTorch network, each with the name of its counterpart: `{"0": "layers.0"}`."""
T = TypeVar("T")


def renamed(weights: Mapping[str, Tensor], names: Names | None) -> Weights:
    """The weights under the PyTorch network's own names.

    Raises:
      InputError: `names` leaves a layer out, or has one that does not exist.
    """
    if names is None:
        return dict(weights)
    own = {theirs: yours for yours, theirs in names.items()}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in weights)
    if own.keys() != layers.keys() or len(own) != len(names):
        raise InputError(
            f"`names` had the layers {', '.join(names.values())}; it must have each of these once: "
            f"{', '.join(layers)}."
        )
    return {_join(own[layer], kind): w for (layer, kind), w in _split(weights)}


def original(weights: Mapping[str, Tensor], names: Names | None) -> Weights:
    """The inverse of `renamed`."""
    if names is None:
        return dict(weights)
    return {_join(names[layer], kind): w for (layer, kind), w in _split(weights)}


def as_function(network: Network, weights: Weights) -> Callable[[Weights, Tensor], Tensor]:
    """`forward(weights, x)` of the network in float64, and in the mode in which it is.

    A module is copied first, so that its running averages stay. Where its names are others than
    those of `weights`, its parameters are matched by shape, in order.

    Args:
      network: a module or a function.
      weights: the weights that the function will get.

    Raises:
      InputError: the parameters of the module are not these weights.
    """
    if not isinstance(network, nn.Module):
        return network
    module = copy.deepcopy(network).double()
    matched = _matched(dict(module.named_parameters()), weights)

    def forward(given: Weights, x: Tensor) -> Tensor:
        by_own = {own: given[name] for own, name in matched.items()}
        return torch.func.functional_call(module, by_own, (x,))

    return forward


def _matched(parameters: Mapping[str, Tensor], weights: Weights) -> dict[str, str]:
    """The name in `weights` for each parameter of a module."""
    if parameters.keys() <= weights.keys():
        return {name: name for name in parameters}
    left = {name: _kind(name, w) for name, w in weights.items()}
    matched = {}
    for own, parameter in parameters.items():
        kind = _kind(own, parameter)
        name = next((name for name, other in left.items() if other == kind), None)
        if name is None:
            raise InputError(
                f"`network` has the parameter {own} {list(parameter.shape)}, for which the network "
                "in JAX has none; pass `names=`, or the network as a function of weights and x."
            )
        matched[own] = name
        del left[name]
    return matched


def _kind(name: str, tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return name.rpartition(".")[2], tuple(tensor.shape)


def _split(weights: Mapping[str, T]) -> list[tuple[tuple[str, str], T]]:
    parts = ((name.rpartition("."), w) for name, w in weights.items())
    return [((layer, kind), w) for (layer, _, kind), w in parts]


def _join(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind
