"""Networks whose batch norms are in evaluation mode, as `model.eval()` makes them in PyTorch.

Every batch norm of a network is visited in the order in which it runs. While a `_Visit` is in force
a norm uses the statistics that the visit has for it, or tells the visit those of its batch. So the
network itself need not know of any of this.
"""

import contextvars
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import lax

import maml_jax as mj
from maml_jax.errors import InputError
from maml_jax.models.layers import BatchNorm, Conv, max_pool
from maml_jax.types import Apply, Examples, Params


class Statistics(NamedTuple):
    """What one batch norm normalises by."""

    mean: jax.Array
    variance: jax.Array


class EvaluationMode:
    """`apply(params, x)` with every batch norm in evaluation mode."""

    def __init__(self, apply: Apply):
        self._apply = apply

    def __call__(self, params: Params, x: Examples, /) -> Examples:
        """The outputs by the model's own running averages; 0 and 1 if it has none."""
        return self._visit(_Visit(), params, x)

    def with_statistics(self, params: Params, x: Examples, by: Sequence[Statistics]) -> Examples:
        """The outputs by other statistics, one entry for each norm in the order of their calls."""
        return self._visit(_Visit(by=tuple(by)), params, x)

    def own_statistics(self, params: Params, x: Examples) -> list[Statistics]:
        """What `__call__` normalises by."""
        visit = _Visit()
        self._visit(visit, params, x)
        return visit.own

    def batch_statistics(self, params: Params, x: Examples) -> list[Statistics]:
        """What the norms see in training mode on this batch, the variance as PyTorch keeps it."""
        visit = _Visit(training=True)
        self._visit(visit, params, x)
        return visit.seen

    def _visit(self, visit: "_Visit", params: Params, x: Examples) -> Examples:
        with _in_force(visit):
            outputs = self._apply(params, x)
        if not visit.own:
            raise InputError(f"`model` has no batch norm that `in_eval_mode` knows; {_REMEDY}")
        return outputs


_REMEDY = (
    "it knows nnx.BatchNorm, linen.BatchNorm and that of maml_jax. Pass the network in evaluation "
    "mode as a function `eval_apply(params, x)` of your own."
)


def in_eval_mode(model: nnx.Module | linen.Module) -> EvaluationMode:
    """`apply(params, x)` of a model whose batch norms use running averages, not the batch's own.

    This is PyTorch's `model.eval()`. A batch norm of `maml_jax` has no running averages: it uses
    the mean 0 and the variance 1, as in PyTorch where they were never updated. `nnx.BatchNorm` and
    `linen.BatchNorm` use their own. The model itself does not change.

    Args:
      model: as for `mj.from_flax`, in training mode.

    Raises:
      InputError: it has no batch norm, or one that is not known here; for Linen, when it is called.
    """
    if isinstance(model, nnx.Module):
        return EvaluationMode(_from_nnx(model))
    if isinstance(model, linen.Module):
        apply = mj.from_flax(model)[1]

        def intercepted(params: Params, x: Examples, /) -> Examples:
            with linen.intercept_methods(_linen_norm):
                return apply(params, x)

        return EvaluationMode(intercepted)
    raise InputError(f"`model` was a {type(model).__name__}; it must be an NNX or a Linen module.")


def _from_nnx(model: nnx.Module) -> Apply:
    known: dict[type, Any] = {BatchNorm: _Norm, nnx.BatchNorm: _FlaxNorm}
    copy = nnx.clone(model)
    found = False
    for path, module in nnx.iter_modules(copy):
        if isinstance(module, Conv):
            module.normalised = False  # no longer by a norm that takes the bias away
        if type(module) in known:
            # A norm may stand in a list, a dict or a Sequential; its class changes in all of them.
            module.__class__ = known[type(module)]
            found = True
        elif isinstance(module, tuple(known)) or _sounds_like_batch_norm(type(module)):
            name = ".".join(("model", *map(str, path)))
            raise InputError(
                f"`{name}` was a {type(module).__name__}, which `in_eval_mode` does not know; "
                f"{_REMEDY}"
            )
    if not found:
        raise InputError(f"`model` has no batch norm that `in_eval_mode` knows; {_REMEDY}")
    return mj.from_flax(copy)[1]


def _sounds_like_batch_norm(kind: type) -> bool:
    return "batchnorm" in kind.__name__.lower().replace("_", "")


class _Visit:
    """One pass through the network."""

    def __init__(self, training: bool = False, by: tuple[Statistics, ...] | None = None):
        self.training, self.by = training, by
        self.own: list[Statistics] = []
        self.seen: list[Statistics] = []

    def normalise(
        self,
        x: jax.Array,
        own: Statistics,
        epsilon: float,
        axis: Sequence[int] = (-1,),
    ) -> jax.Array:
        """x̂ of one norm, by what this pass normalises by, and what it had is noted."""
        self.own.append(own)
        kept = tuple(a % x.ndim for a in axis)
        used = own if self.by is None else self.by[len(self.own) - 1]
        if self.training:
            over = tuple(a for a in range(x.ndim) if a not in kept)
            count = x.size / max(1, own.mean.size)
            batch = Statistics(x.mean(over), x.var(over))
            # PyTorch normalises by the biased variance and keeps the unbiased one.
            unbiased = batch.variance * (count / max(1.0, count - 1))
            self.seen.append(Statistics(batch.mean, unbiased))
            used = batch
        shape = [size if a in kept else 1 for a, size in enumerate(x.shape)]
        mean, variance = (jnp.asarray(s, x.dtype).reshape(shape) for s in used)
        return (x - mean) * lax.rsqrt(variance + epsilon)


_IN_FORCE: contextvars.ContextVar[_Visit] = contextvars.ContextVar("visit")


@contextmanager
def _in_force(visit: _Visit) -> Iterator[None]:
    token = _IN_FORCE.set(visit)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


class _Norm(BatchNorm):
    def __call__(self, x: jax.Array, pool: bool = False) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        own = Statistics(jnp.zeros_like(bias), jnp.ones_like(bias))
        y = _IN_FORCE.get().normalise(x, own, self.epsilon) * scale + bias
        return max_pool(y) if pool else y


class _FlaxNorm(nnx.BatchNorm):
    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: Any = None
    ) -> jax.Array:
        del use_running_average, mask
        axis = (self.axis,) if isinstance(self.axis, int) else tuple(self.axis)
        own = Statistics(self.mean[...], self.var[...])
        y = _IN_FORCE.get().normalise(x, own, self.epsilon, axis)
        scale, bias = (None if w is None else w[...] for w in (self.scale, self.bias))
        return _affine(y, scale, bias, axis)


def _linen_norm(
    call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], context: Any
) -> Any:
    """The call of a Linen module's method, or what takes its place if it is a batch norm's."""
    norm = context.module
    if context.method_name != "__call__":
        return call(*args, **options)
    if type(norm) is not linen.BatchNorm:
        if isinstance(norm, linen.BatchNorm) or _sounds_like_batch_norm(type(norm)):
            name = ".".join(("model", *norm.path))
            raise InputError(
                f"`{name}` was a {type(norm).__name__}, which `in_eval_mode` does not know; "
                f"{_REMEDY}"
            )
        return call(*args, **options)
    held = norm.variables
    own = Statistics(held["batch_stats"]["mean"], held["batch_stats"]["var"])
    weights = held.get("params", {})
    axis = (norm.axis,) if isinstance(norm.axis, int) else tuple(norm.axis)
    y = _IN_FORCE.get().normalise(args[0], own, norm.epsilon, axis)
    return _affine(y, weights.get("scale"), weights.get("bias"), axis)


def _affine(y: jax.Array, scale: Any, bias: Any, axis: tuple[int, ...]) -> jax.Array:
    kept = {a % y.ndim for a in axis}
    shape = [size if a in kept else 1 for a, size in enumerate(y.shape)]
    y = y if scale is None else y * scale.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)
