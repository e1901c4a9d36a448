"""A head that starts from the prototypes of the support set."""

from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.core.rule import Fast, Frozen, InnerRule, State
from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError
from maml_jax.types import Apply, Batch, Examples, Meta, Params, Scalar


def from_prototypes(rule: InnerRule, features: Apply, head: str) -> InnerRule:
    r"""`rule`, started with the head $W = 2c,\; b = -\lVert c\rVert^2$.

    $c_n$ is the mean of `features(params, x)` over the support examples of class n, at the
    meta-learned weights. Gradients flow through it whatever operator the steps have. A class
    without support examples has the prototype 0. `rule` is one whose meta-parameters are the
    weights; of those of the head only the shape is used.
    """
    kernel, bias = f"{head}/kernel", f"{head}/bias"

    def init(params: Params) -> Meta:
        check_head(params, head)
        return rule.init(params)

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        old = by_path(meta)[kernel]
        members = jax.nn.one_hot(support.y, old.shape[1], dtype=old.dtype)
        # A label that is no class would be left out without a word.
        valid = (support.y >= 0) & (support.y < old.shape[1])
        members = jnp.where(valid[:, None], members, jnp.nan)
        sums = members.T @ features(meta, support.x)
        prototypes = sums / jnp.maximum(members.sum(0), 1)[:, None]
        new = {kernel: 2 * prototypes.T, bias: -jnp.square(prototypes).sum(1)}
        return rule.start(replace(meta, new), support, progress)

    return rule._replace(init=init, start=start, needs_classes=True)


def without_head(apply: Apply, head: str) -> Apply:
    """`features(params, x)`: what the head of `apply` sees, by giving it the identity for a kernel.

    It takes a model that does not insist on the number of its outputs, as Flax NNX and functions
    do not; for others, pass features of your own. The result raises `InputError` where `apply` has
    not as many outputs as the head.
    """

    def features(params: Params, x: Examples) -> Examples:
        kernel = by_path(params)[f"{head}/kernel"]
        outputs = jax.eval_shape(apply, params, x).shape[-1]
        if outputs != kernel.shape[1]:
            raise InputError(
                f"`apply` gave {outputs} outputs and its layer {head!r} has {kernel.shape[1]}, so "
                "it does not end in that layer; pass the whole network, and what gives its "
                "features as `features`."
            )
        identity = {
            f"{head}/kernel": jnp.eye(len(kernel), dtype=kernel.dtype),
            f"{head}/bias": jnp.zeros(len(kernel), kernel.dtype),
        }
        return apply(replace(params, identity), x)

    return features


def check_head(params: Params, head: str) -> tuple[int, int]:
    """The `(features, outputs)` of the head, or an `InputError` where there is none."""
    leaves = by_path(params)
    kernel = leaves.get(f"{head}/kernel")
    if kernel is None or f"{head}/bias" not in leaves or kernel.ndim != 2:
        raise InputError(
            f"`head` was {head!r}; it must be a dense layer with kernel and bias, "
            f"and the weights are {', '.join(leaves)}."
        )
    if kernel.shape[1] < 2:
        raise InputError(
            f"`head` was {head!r} with one output; it must have one for each class, "
            "and regression has none."
        )
    return kernel.shape


def replace(params: Params, new: dict[str, Any]) -> Params:
    """`params` with other leaves at the paths of `new`."""
    return jax.tree.map_with_path(lambda path, leaf: new.get(path_name(path), leaf), params)
