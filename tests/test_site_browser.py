"""The site in a browser: no page has an error, a broken picture, or more width than a telephone."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # it builds the site, and opens all of its pages

ROOT = Path(__file__).parents[1]
MATHEMATICS = re.compile(r"https://cdn\.jsdelivr\.net/")
"""The one other server that pages ask; tests ask none."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site and its address; MAML_JAX_SITE names the folder of one that was built before."""
    folder = os.environ.get("MAML_JAX_SITE")
    if folder is None:
        for module in ("mkdocstrings", "jupytext", "nbclient", "ipykernel"):
            pytest.importorskip(module, reason=f"{module} is not installed; see `make docs`")
        folder = tmp_path_factory.mktemp("site")
        build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
        subprocess.run(
            [*build, "--site-dir", folder],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            check=True,
        )
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Path(folder), f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def page_names(folder):
    return sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("index.html"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_browser(site, browser, width, scheme):
    folder, address = site
    names = page_names(folder)
    assert {".", "get-started", "article", "predict", "api", "examples/first_learner"} <= {*names}
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    context.route(MATHEMATICS, lambda route: route.fulfill(body="", content_type="text/javascript"))
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append((page.url, message.text)))
    page.on("pageerror", lambda error: said.append((page.url, str(error))))
    page.on("requestfailed", lambda request: said.append((page.url, request.url)))
    page.on("response", lambda got: said.append(got.url) if got.status >= 400 else None)
    wide, broken, grounds = [], [], set()
    for name in names:
        page.goto(address if name == "." else f"{address}{name}/")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(name)
        if page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length"):
            broken.append(name)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    context.close()
    assert (said, wide, broken) == ([], [], [])
    (ground,) = grounds
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (brightness > 200) == (scheme == "light"), ground
