"""What a learner is given, checked in one place, before anything is computed.

Shapes and types are known while JAX traces, so they are checked there too: a `PyTree` below may
hold `jax.ShapeDtypeStruct`s in the place of arrays. The values of labels are
known only where nothing is traced; elsewhere labels that are no class make the loss NaN.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from maml_jax.core.trees import path_name
from maml_jax.errors import InputError, shown
from maml_jax.kernels.jax_internals import is_traced
from maml_jax.losses import mean_squared_error, softmax_cross_entropy
from maml_jax.types import Batch, Episode, Examples, Loss, Meta, Params, Scalar


def check_weights(name: str, tree: Meta | Params) -> None:
    """An `InputError` where a leaf has no gradient: only real floating-point numbers have one."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        dtype = _dtype(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            what = type(leaf).__name__ if dtype is None else _type(leaf)
            raise InputError(
                f"`{name}` held {what} at '{path_name(path)}', which has no gradient; all weights "
                "must be real floating-point arrays, so close over the rest in `apply`, as "
                "`mj.from_flax` and `mj.from_equinox` do with modules."
            )


def check_meta(meta: Meta, keys: tuple[str, ...]) -> None:
    """An `InputError` where `meta` is not what `init` made, a dict of these keys if there are any.

    Bare weights are the likely cause.
    """
    if keys and not (isinstance(meta, Mapping) and set(keys) <= set(meta)):
        found = (
            f"a dict of {', '.join(map(str, meta))}" if isinstance(meta, Mapping) else shown(meta)
        )
        raise InputError(
            f"`meta` was {found[:200]}; it must hold {', '.join(keys)}: call "
            "`learner.init(params)` first, and pass what it returns."
        )
    check_weights("meta", meta)


def check_batch(name: str, batch: Batch) -> None:
    """An `InputError` where `x` and `y` are not of one number of examples, at least one.

    `y` may hold whatever a loss of one's own takes, and `x` whatever a model of one's own does: of
    several arrays, one of each must agree.
    """
    if not isinstance(batch, Batch):
        raise InputError(f"`{name}` was {shown(batch)}; it must be an `mj.Batch(x, y)`.")
    check_arrays(f"{name}.x", batch.x)
    check_arrays(f"{name}.y", batch.y)
    of_x, of_y = _lengths(batch.x), _lengths(batch.y)
    said = f"`{name}` was {shown(batch)}"
    if not of_x:
        raise InputError(f"{said}; `x` must be arrays whose leading axis counts the examples.")
    if jax.tree.leaves(batch.y) and not of_x & of_y:
        raise InputError(
            f"{said}; `x` and `y` must have as many examples, on the leading axis of each."
        )
    if 0 in of_x:
        raise InputError(f"{said}; there must be at least one example.")


def check_episode(episode: Episode, *, of_batches: bool = True) -> None:
    """An `InputError` where one of its two batches is wrong, or it is no episode."""
    if not isinstance(episode, Episode):
        raise InputError(
            f"`episode` was {shown(episode)}; it must be an `mj.Episode(support, query)`."
        )
    if of_batches:
        check_batch("support", episode.support)
        check_batch("query", episode.query)


def check_episodes(episodes: Any, *, of_batches: bool = True) -> int:
    """The number of tasks of a batch of episodes; an `InputError` where it is not the same in all.

    It may be any pytree, for learners of one's own; in an `Episode` the batches of a task are
    checked too, unless its two sets need not be `Batch`es.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(episodes)]
    lengths = {shape[0] if shape else None for shape in shapes}
    said = f"`episodes` was {shown(episodes)}"
    wanted = "it must be a batch of episodes, [tasks, examples, …]"
    if len(lengths) != 1 or None in lengths:
        raise InputError(f"{said}; {wanted}, with as many tasks in each array.")
    (tasks,) = lengths
    if not tasks:
        raise InputError(f"{said}; {wanted}, of at least one task.")
    if of_batches and isinstance(episodes, Episode):
        one = first_task(episodes)
        try:
            check_episode(one)
        except InputError as error:
            raise InputError(
                f"{said}; {wanted}, and one task of it is wrong: {error} One episode by itself "
                "goes to `learner.value_and_grad`."
            ) from error
    return tasks


def first_task(episodes: Any) -> Any:
    """The shapes and types of the first episode of a batch."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[1:], _dtype(leaf)), episodes
    )


def check_beside(support_x: Examples, x: Examples) -> None:
    """An `InputError` where examples of `x` cannot stand beside those of the support set."""
    check_arrays("x", x)
    one, other = (
        [np.shape(leaf)[1:] if np.ndim(leaf) else None for leaf in jax.tree.leaves(tree)]
        for tree in (support_x, x)
    )
    structures: list[Any] = [jax.tree.structure(tree) for tree in (support_x, x)]
    uneven = max(len(_lengths(support_x)), len(_lengths(x))) > 1
    if structures[0] != structures[1] or one != other or uneven:
        raise InputError(
            f"`x` was {_types(x)}; it must be [examples, …] like the support set's, which is "
            f"{_types(support_x)}."
        )


def check_arrays(name: str, tree: PyTree) -> None:
    """An `InputError` where a leaf is no array of numbers or keys."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if _dtype(leaf) is None:
            where = f" at '{path_name(path)}'" if path else ""
            raise InputError(
                f"`{name}` held {shown(leaf, 60)}{where}; it must be arrays of numbers."
            )


def count_examples(batch: Batch) -> int:
    """How many examples there are, for who takes some; an `InputError` where arrays differ."""
    lengths = _lengths(batch)
    if len(lengths) != 1 or not all(map(np.ndim, jax.tree.leaves(batch))):
        raise InputError(
            f"`batch_size` was given, and the support set is {shown(batch)}; to take some of the "
            "examples, all arrays must have them on their leading axis."
        )
    return lengths.pop()


def checked_loss(loss: Loss) -> Loss:
    """`loss`, which refuses outputs and targets of other shapes that it would broadcast."""

    def checked(outputs: Examples, y: Examples) -> Scalar:
        _check_broadcast(loss, outputs, y)
        return check_scalar("loss", loss(outputs, y))

    return checked


def check_scalar(name: str, value: Any) -> Scalar:
    """`value`, or an `InputError` where what `name` returned is not one real number."""
    dtype = _dtype(value)
    if dtype is None or np.shape(value) != () or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"`{name}` returned {_types(value)}; it must return one number, a mean over examples."
        )
    return value


def _check_broadcast(loss: Loss, outputs: Examples, y: Examples) -> None:
    """Refuse `y` of shape (n,) against outputs (n, 1), of which a difference is (n, n).

    A loss may take such a pair rightly, by an index or a reshape; it then broadcasts nothing.
    """
    if not (_is_array(outputs) and _is_array(y)):
        return
    if outputs.ndim == y.ndim or loss in (softmax_cross_entropy, mean_squared_error):
        return
    try:
        with jax.numpy_rank_promotion("raise"):
            jax.eval_shape(loss, outputs, y)
    except ValueError as error:
        shapes = [" ".join(str(shape).split()) for shape in (outputs.shape, y.shape)]
        if not all(part in str(error) for part in ("numpy_rank_promotion", *shapes)):
            return  # another broadcast, or an error that the loss itself will raise
        raise InputError(
            f"`y` was {_types(y)} and the outputs {_types(outputs)}, which the loss would "
            "broadcast against each other; give them one shape."
        ) from error


def check_integers(name: str, y: PyTree) -> None:
    """An `InputError` where `y` is no array of integer labels, of which there are prototypes."""
    if not (_is_array(y) and jnp.issubdtype(y.dtype, jnp.integer)):
        found = y.dtype if _is_array(y) else _types(y)
        raise InputError(
            f"`{name}` was {found}; prototypes are of classes, so it must be integer labels: "
            "regression has none."
        )


def check_labels(name: str, y: PyTree, ways: int) -> None:
    """An `InputError` where labels, of known values, are not all in 0 … ways − 1."""
    labels = known(y)
    if labels is None or not labels.size:
        return
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= ways:
        hint = " Labels that count from 1 need 1 subtracted." if least == 1 and most == ways else ""
        raise InputError(
            f"`{name}` had labels from {least} to {most}; for {ways} outputs they must be in 0 to "
            f"{ways - 1}.{hint}"
        )


def known(y: PyTree) -> np.ndarray | None:
    """The values of an array of integers; None where they are traced or on other hosts."""
    if not _is_array(y) or is_traced(y) or isinstance(y, jax.ShapeDtypeStruct):
        return None
    if isinstance(y, jax.Array) and not y.is_fully_addressable:
        return None
    return np.asarray(y) if jnp.issubdtype(y.dtype, jnp.integer) else None


def takes_classes(loss: Loss) -> bool:
    """Whether `y` must be labels in 0 … ways − 1; a loss of one's own may take others."""
    return loss is softmax_cross_entropy


def has_one_axis(x: PyTree) -> bool:
    """Whether it is not seen from `x` alone that it has an axis of examples."""
    return _is_array(x) and x.ndim == 1


def check_axis_of_examples(name: str, apply: Callable[[Examples], Examples], x: PyTree) -> None:
    """An `InputError` where the only axis of `x` is that of features.

    A network takes one example, `[features]`, as readily as `[examples, features]`. That its axis
    is no axis of examples shows in that the network takes no other length.
    """
    if not has_one_axis(x):
        return
    outputs = jax.eval_shape(apply, x)
    if not (_is_array(outputs) and outputs.ndim == 1):
        return
    longer = jax.ShapeDtypeStruct((x.shape[0] + 1,), _dtype(x))
    try:
        jax.eval_shape(apply, longer)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{name}.x` was {_types(x)}, which the model takes as the features of one example; it "
            "must be [examples, …], and for `over_tasks` [tasks, examples, …]."
        ) from error


def _lengths(tree: PyTree) -> set[int]:
    return {np.shape(leaf)[0] for leaf in jax.tree.leaves(tree) if np.ndim(leaf)}


def _is_array(tree: Any) -> bool:
    return hasattr(tree, "ndim") and hasattr(tree, "dtype")


def _dtype(leaf: Any) -> Any:
    """The type of a leaf that JAX can compute with; None of any other."""
    if isinstance(leaf, bool | int | float | complex):
        return jax.dtypes.canonicalize_dtype(np.dtype(type(leaf)))
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return None
    numeric = jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)
    if numeric:
        return jax.dtypes.canonicalize_dtype(dtype)  # as JAX takes it: int64 is int32 by default
    return dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else None


def _type(leaf: Any) -> str:
    if hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return f"the {type(leaf).__name__} {shown(leaf, 60)}"


def _types(tree: Any) -> str:
    """`float32[5,3]`, or a pytree of these."""
    return shown(Batch(tree, ())).removeprefix("Batch(x=").removesuffix(", y=())")
