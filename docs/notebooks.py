"""The examples as pages: each is run from a fresh kernel, and shown with what it printed and drew.

An example is run again when it or the package has changed; else what `.notebooks/` keeps of the
last time is shown. An error in a cell ends the build.
"""

import base64
import hashlib
import html
import logging
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jupytext
from mkdocs.structure.files import File
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
KEPT = ROOT / ".notebooks"
SET_UP = "%config InlineBackend.figure_formats = ['retina']"
LONGEST_CELL = 3600
"""Seconds; on a busy machine too."""
_log = logging.getLogger("mkdocs.hooks.notebooks")


def on_files(files, *, config):
    """Add a page for each example, and its figures."""
    for source in sorted(EXAMPLES.glob("*.py")):
        for name, content in page_files(source).items():
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files


def page_files(source):
    """The files of an example's page by their names: Markdown, and a PNG for each figure."""
    folder = KEPT / f"{source.stem}-{_digest(source)}"
    if not folder.is_dir():
        _log.info("running %s", source.name)
        start = time.perf_counter()
        notebook = run(source.read_text(encoding="utf-8"))
        found = as_page(notebook, source.stem, time.perf_counter() - start)
        for old in KEPT.glob(f"{source.stem}-*"):
            shutil.rmtree(old)
        folder.mkdir(parents=True)
        for name, content in found.items():
            (folder / name).write_bytes(content)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _digest(source):
    """What the results of an example come from."""
    files = [source, Path(__file__)]
    for package in ("maml_jax", "parity"):
        files += sorted(path for path in (ROOT / package).rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        if file.suffix != ".pyc":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def run(text):
    """The notebook of a percent script, run from a fresh kernel in an empty folder."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.cells.insert(0, new_code_cell(SET_UP))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=LONGEST_CELL,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        ).execute()
    del notebook.cells[0]
    return notebook


def as_page(notebook, name, seconds):
    """The files of the page of a notebook that was run."""
    files, parts = {}, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "stream" and output.name == "stdout":
                parts.append(_printed(output.text))
            elif "image/png" in data:
                figure = f"{name}_{len(files) + 1}.png"
                files[figure] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell above draws]({figure}){{ .figure }}")
            elif "text/html" in data:
                parts.append(f'<div class="shown">\n{data["text/html"]}\n</div>')
            elif "text/plain" in data:
                parts.append(_printed(data["text/plain"]))
    parts.append(
        f"---\n\nThe source is [examples/{name}.py](../../examples/{name}.py), a script whose "
        f"cells Jupyter and editors show as a notebook. This page was made by running it with "
        f"Python {platform.python_version()} and JAX {version('jax')}, in {seconds:.0f} s."
    )
    return {f"{name}.md": "\n\n".join(parts).encode(), **files}


def _printed(text):
    return f'<pre class="printed">{html.escape(text.rstrip())}</pre>'
