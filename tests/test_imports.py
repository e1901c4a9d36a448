"""Imports go one way, and the library knows nothing of what compares and measures it."""

import ast
import re
from pathlib import Path

import pytest

import maml_jax

ROOT = Path(maml_jax.__file__).parent

# What the modules of each package may import of `maml_jax`, besides their own package.
# The modules beside the packages are the vocabulary, which everyone may use.
VOCABULARY = {"cache", "errors", "extras", "files", "losses", "registry", "types", "version"}
LAYERS = ("core", "inner", "algorithms", "batching", "training")
LEARNING = set(LAYERS[:-1])
MAY_IMPORT = {
    **{layer: set(LAYERS[:i]) for i, layer in enumerate(LAYERS)},
    "training": LEARNING | {"adapters", "data", "kernels", "models"},
    "problems": {"core", "inner"},
    "exchange": LEARNING | {"adapters", "data", "models", "training"},
    "classifier": LEARNING | {"data", "training"},
    "report": LEARNING | {"data", "training"},
    "cli": LEARNING
    | {"adapters", "classifier", "data", "exchange", "models", "report", "training"},
    "models": {"kernels"},
    "kernels": set(),
    "adapters": set(),
    "data": set(),
    # The module that is run, and the public surface, which lists what is everywhere.
    "__main__": {"cli"},
    "__init__": {
        "adapters",
        "algorithms",
        "batching",
        "classifier",
        "data",
        "models",
        "problems",
        "training",
    },
    **dict.fromkeys(VOCABULARY, VOCABULARY),
}
BELOW_JAX = "kernels.jax_internals"
"""The one module that touches JAX below its documented interface, for whoever needs that."""
STRANGERS = {"benchmarks", "parity", "torch"}


def sources():
    return sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")])


def part_of(path):
    """The package, or the module beside the packages, that a file belongs to."""
    first = path.relative_to(ROOT).parts[0]
    return first.partition(".")[0]


def imported(path):
    """The full names of the modules that a file imports, wherever in it."""
    package = ("maml_jax", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def test_there_are_rules_for_every_part():
    assert {part_of(path) for path in sources()} == MAY_IMPORT.keys()


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_go_one_way(part):
    allowed = MAY_IMPORT[part] | VOCABULARY | {part}
    wrong = []
    for path in sources():
        if part_of(path) != part:
            continue
        for line, name in imported(path):
            root, _, module = name.partition(".")
            # The public surface, as in `from maml_jax import maml`, is in nobody's list.
            free = root != "maml_jax" or module.startswith(BELOW_JAX)
            if not free and module.partition(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(ROOT.parent)}:{line} imports {name}")
    assert wrong == []


def test_the_library_never_imports_what_compares_it():
    found = [
        f"{path.relative_to(ROOT.parent)}:{line} imports {name}"
        for path in sources()
        for line, name in imported(path)
        if name.partition(".")[0] in STRANGERS
    ]
    assert found == []


def test_nor_names_it_in_a_string():
    """Such as the argument of `importlib.import_module`."""
    module = re.compile(rf"({'|'.join(STRANGERS)})(\.\w+)*")
    found = [
        f"{path.relative_to(ROOT.parent)}:{node.lineno} has {node.value!r}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and module.fullmatch(node.value)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", ["torch.nn"]),
        ("from maml_jax.core import trees", ["maml_jax.core.trees"]),
        ("def f():\n    from ..core.rule import Adapts", ["maml_jax.core.rule.Adapts"]),
        ("from . import layers", ["maml_jax.models.layers"]),
    ],
)
def test_imports_are_found(source, expected, monkeypatch):
    """What the tests above rest on."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: source)
    assert [name for _, name in imported(ROOT / "models" / "conv4.py")] == expected
