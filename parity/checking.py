"""One call from a PyTorch meta-gradient to a verdict."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from maml_jax.errors import InputError
from maml_jax.exchange import Flattened
from parity.catalogue import Catalogue
from parity.conversion import tasks_to_torch, to_flax, to_torch
from parity.diagnosis import Diagnosis, diagnose
from parity.first_outputs import FirstOutputs
from parity.networks import Networks, compare_networks, observed_networks
from parity.problem import Problem
from parity.torch_names import Names, Network, original, renamed
from parity.torch_tools import Task, Weights
from parity.variants import Variant, variants

TorchFunction: TypeAlias = Callable[[Weights, list[Task]], Mapping[str, Tensor | None]]
"""`torch_function(weights, tasks) -> {name: meta-gradient}`."""
AGREE = "your networks agree at the starting weights: the cause is in the training step"


def check(
    torch_function: TorchFunction,
    problem: Problem,
    *,
    network: Network | None = None,
    names: Names | None = None,
    flattened: Flattened | None = None,
    rounding: float | None = None,
    catalogue: Catalogue | None = None,
) -> Diagnosis:
    """Run a PyTorch meta-learner on a problem, and say whether its meta-gradient is that of MAML.

    A gradient can be judged only if the two networks are the same function. With `network=` their
    outputs at the starting weights are compared first. Without it, what `torch_function` gives to
    its first loss is compared in their place, if that can be seen.

    Args:
      torch_function: `torch_function(weights, tasks)`, with the weights as PyTorch names and lays
        them out (float64, not yet requiring a gradient) and `Task`s of tensors with channels
        first, returns the mean meta-gradient over tasks by the same names. None counts as zero.
      problem: network, weights, tasks, and how to adapt.
      network: the network in PyTorch, a module or a function `network(weights, x) -> outputs`.
      names: what its layers are called in `problem.params`, `{"0": "layers.0"}`; the weights then
        have the names of the PyTorch network. None: they have those of `problem.params`.
      flattened: the dense layers behind a flattened image, `{"head": (height, width, channels)}`.
      rounding: as in `diagnose`.
      catalogue: as in `diagnose`.

    Raises:
      InputError: `torch_function` returned other names than it was given, or the parameters of
        `network` are not those of `problem.params`.
    """
    wide = problem.in_float64()
    tasks = tasks_to_torch(wide.episodes)
    plain = Variant(flattened or {})

    def train(weights: Weights, tasks: list[Task]) -> Mapping[str, Tensor | None]:
        with buffers_kept(network):
            return torch_function({name: w.clone() for name, w in weights.items()}, tasks)

    def gradient(variant: Variant) -> tuple[dict[str, Any], FirstOutputs]:
        weights = renamed(to_torch(wide.params, variant.flattened), names)
        with variant.in_force(), FirstOutputs() as first:
            found = _checked(train(weights, tasks), weights)
        return to_flax(original(found, names), variant.flattened), first

    judge = partial(
        diagnose, problem=problem, rounding=rounding, catalogue=catalogue or Catalogue(problem)
    )
    differ = None
    if network is not None:
        with buffers_kept(network):
            differ = compare_networks(network, wide, plain.flattened, names)
        if differ is not None:
            return _of_other_networks(differ, lambda variant: judge(gradient(variant)[0]))
    mine, first = gradient(plain)
    right = judge(mine, explain=False)
    if right.correct:
        return right
    if network is None and first.outputs is not None:
        differ = observed_networks(train, first.outputs, wide, plain.flattened, names)
    elif network is None:
        differ = _by_gradient(wide, plain, lambda v: judge(gradient(v)[0], explain=False).correct)
    if differ is not None and differ.variant is not None:
        return _of_other_networks(differ, lambda variant: judge(gradient(variant)[0]))
    found = judge(mine)
    if found.mistakes:
        return found
    if differ is not None:
        return _of_other_networks(differ, None)
    seen = network is not None or first.outputs is not None
    return replace(found, advice=AGREE if seen else found.advice)


@contextmanager
def buffers_kept(network: Network | None) -> Iterator[None]:
    """Leave the running statistics of a module as they were, for each run is to start from them."""
    module = network if isinstance(network, torch.nn.Module) else torch.nn.Module()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(before[name])


def _checked(returned: Mapping[str, Tensor | None], weights: Weights) -> Weights:
    """The gradient that a training step returned, with zeros for None."""
    if returned.keys() != weights.keys():
        wrong = ", ".join(sorted(returned.keys() ^ weights.keys()))
        raise InputError(f"`torch_function` and the weights differ in the names {wrong}.")
    return {
        name: torch.zeros_like(w) if (slope := returned[name]) is None else slope.detach()
        for name, w in weights.items()
    }


def _of_other_networks(
    differ: Networks, verdict: Callable[[Variant], Diagnosis] | None
) -> Diagnosis:
    """What can be said where the networks are not the same function."""
    if verdict is None or differ.variant is None:
        return Diagnosis.impossible(str(differ))
    return replace(Diagnosis.impossible(str(differ)), once_equal=verdict(differ.variant))


def _by_gradient(
    problem: Problem, plain: Variant, correct: Callable[[Variant], bool]
) -> Networks | None:
    """Where no outputs were seen: the single change, if any, that makes the gradient right."""
    for variant in variants(problem.params, plain.flattened, single=True):
        if correct(variant):
            return Networks(float("nan"), (float("nan"), float("nan")), variant, observed=True)
    return None
