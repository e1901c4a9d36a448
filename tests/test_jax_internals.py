"""Which names of JAX below its documented interface this package needs, and where."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

import maml_jax

PACKAGE = Path(maml_jax.__file__).parent
MODULE = PACKAGE / "kernels" / "jax_internals.py"
NAMES = {
    "jax.config.jax_default_matmul_precision",
    "jax.core.ShapedArray",
    "jax.core.Tracer",
    "jax.core.eval_jaxpr",
    "jax.custom_derivatives.SymbolicZero",
    "jax.experimental.multihost_utils.broadcast_one_to_all",
    "jax.experimental.multihost_utils.process_allgather",
    "jax.experimental.multihost_utils.sync_global_devices",
    "jax.extend.core.Primitive",
    "jax.interpreters.ad.JVPTracer",
    "jax.interpreters.ad.defbilinear",
    "jax.interpreters.batching.primitive_batchers",
    "jax.interpreters.mlir.lower_fun",
    "jax.interpreters.mlir.register_lowering",
}
# The sub-packages of https://docs.jax.dev/en/latest/jax.html, and `errors`, which has a page of its
# own; without `jax.extend` and `jax.experimental`, for which JAX promises nothing.
DOCUMENTED = """
    numpy scipy lax random sharding ad_checkpoint debug dlpack distributed dtypes errors export ffi
    flatten_util image nn ops profiler ref stages test_util tree tree_util typing
""".split()  # noqa: SIM905  # shorter than a list


def names_of_jax(source: str) -> set[str]:
    """The full names that a module takes from `jax` and `jaxlib`, by whatever alias."""
    tree = ast.parse(source)
    aliases, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                path = name.name if name.asname else name.name.partition(".")[0]
                aliases[name.asname or path] = path
                found.add(name.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            aliases |= {
                name.asname or name.name: f"{node.module}.{name.name}" for name in node.names
            }
    found |= {*aliases.values()}
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in aliases:
            found.add(".".join((aliases[node.id], *parts)))
    names = {name for name in found if name.partition(".")[0] in ("jax", "jaxlib")}
    # Of `jax.lax` and `jax.lax.scan` the second says it all.
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


@cache
def is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def is_documented(name: str) -> bool:
    package, *rest = name.split(".")
    if package != "jax" or any(part.startswith("_") for part in rest if part != "__version__"):
        return False
    if rest[:1] == ["config"]:
        return rest == ["config", "update"]
    return not rest or rest[0] in DOCUMENTED or not is_module(f"jax.{rest[0]}")


def below(path: Path) -> set[str]:
    names = names_of_jax(path.read_text(encoding="utf-8"))
    return {name for name in names if not is_documented(name)}


def test_the_names_that_one_module_needs():
    assert below(MODULE) == NAMES


def test_no_other_module_needs_any():
    others = {path: below(path) for path in PACKAGE.rglob("*.py") if path != MODULE}
    assert len(others) > 50
    assert {str(path.relative_to(PACKAGE)): names for path, names in others.items() if names} == {}


def test_every_way_to_take_a_name_is_seen():
    source = """
import jax, jaxlib
import jax.numpy as jnp
import jax.interpreters.xla
import jax.core as core
from jax import lax, config
from jax.extend import core as more
from jax._src import util

def f():
    jax.config.update("jax_enable_x64", jnp.ones(3).any())
    lax._private, config.jax_enable_x64
    from jax.experimental import sparse
    return jax.core.Tracer, core.Token, more.Jaxpr, jax.jit(f), sparse.BCOO
"""
    found = {name for name in names_of_jax(source) if not is_documented(name)}
    assert found == {
        "jaxlib",
        "jax.interpreters.xla",
        "jax._src.util",
        "jax.lax._private",
        "jax.config.jax_enable_x64",
        "jax.experimental.sparse.BCOO",
        "jax.core.Tracer",
        "jax.core.Token",
        "jax.extend.core.Jaxpr",
    }
