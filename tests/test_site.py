"""The site: every page is in its menu, every link has a target, every public name has an entry."""

import importlib
import os
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
ENTRIES = [
    entry
    for page in PAGES
    for entry in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
]
SUBMODULES = ("data", "losses", "models")
WITHOUT_DOCSTRINGS = ("__version__", "Params", "Meta", "Examples")
"""What is no function and no class."""


def without_blocks(page):
    """The text of a page without its blocks of code."""
    text = page.read_text("utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(page):
    """What the page links to in itself or in the repository."""
    text = re.sub(r"`[^`\n]*`", "code", without_blocks(page))
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not link.startswith(("https:", "http:"))]


def anchors(page):
    """What `#…` may name in a page, by the rule that GitHub and the site share."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


def listed(stub):
    """The public names that a package's `__init__.pyi` lists."""
    return re.findall(r" as (\w+)$", (ROOT / stub).read_text("utf-8"), re.MULTILINE)


def public_names():
    names = [f"maml_jax.{name}" for name in listed("maml_jax/__init__.pyi")]
    for module in SUBMODULES:
        names.remove(f"maml_jax.{module}")
        found = importlib.import_module(f"maml_jax.{module}")
        names += [f"maml_jax.{module}.{name}" for name in found.__all__]
    return names + [f"parity.{name}" for name in listed("parity/__init__.pyi")]


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1].split("\n\n")[0]
    pages = [page.relative_to(DOCS).as_posix() for page in PAGES]
    made = [f"examples/{source.stem}.md" for source in EXAMPLES]
    assert sorted(re.findall(r"(\S+\.md)$", menu, re.MULTILINE)) == sorted(pages + made)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_have_targets(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.stem)
def test_links_of_examples_have_targets(source):
    """They are those of a page in docs/examples/, which the site makes of the source."""
    for link in re.findall(r"\]\((\.\./[^)\s]+)\)", source.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = DOCS / path.removeprefix("../")
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_public_name_has_one_entry():
    assert len(set(ENTRIES)) == len(ENTRIES)
    assert set(public_names()) - set(ENTRIES) == set()


@pytest.mark.parametrize("package", ["maml_jax", "parity"])
def test_every_entry_is_there_and_has_a_docstring(package):
    if package == "parity":
        pytest.importorskip("torch")
    for entry in ENTRIES:
        if entry.startswith(f"{package}."):
            _, *path = entry.replace("maml_jax.types", "maml_jax").split(".")
            module = "maml_jax.types" if ".types." in entry else package
            found = reduce(getattr, path, importlib.import_module(module))
            assert path[-1] in WITHOUT_DOCSTRINGS or found.__doc__, entry


@pytest.mark.slow  # it builds all pages, and runs the examples that have changed
def test_the_site_builds(tmp_path):
    for module in ("mkdocstrings", "jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module} is not installed; see `make docs`")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    site = "".join(page.read_text("utf-8") for page in (tmp_path / "api").rglob("*.html"))
    assert [entry for entry in ENTRIES if f'id="{entry}"' not in site] == []
