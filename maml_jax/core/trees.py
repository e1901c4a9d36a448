"""Pytrees in two parts: each part has the whole structure, with None where the other has a leaf."""

from collections.abc import Callable
from typing import Any

import jax


def partition(keep: Callable[[str], bool], tree: Any) -> tuple[Any, Any]:
    """The leaves whose path, like `blocks/0/conv/kernel`, satisfies `keep`; and the rest."""
    kept = jax.tree.map_with_path(lambda path, leaf: leaf if keep(path_name(path)) else None, tree)
    rest = jax.tree.map_with_path(lambda path, leaf: None if keep(path_name(path)) else leaf, tree)
    return kept, rest


def combine(one: Any, other: Any) -> Any:
    """The inverse of `partition`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None
    )


def path_name(path: Any) -> str:
    """A key path of JAX's as `blocks/0/conv/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves by their paths, like `{"blocks/0/conv/kernel": …}`."""
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
