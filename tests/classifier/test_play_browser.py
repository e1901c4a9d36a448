"""The page of `maml-jax play` in a browser: six drawings by the mouse, and the answer."""

import re
import threading

import pytest

from maml_jax.classifier import network
from maml_jax.classifier.play import Server

pytestmark = [
    pytest.mark.slow,  # it starts a browser, and adapts by compiled steps
    pytest.mark.xdist_group("classifier"),
]

STROKES = [
    [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
    [[(0.15, 0.25), (0.85, 0.25)], [(0.5, 0.25), (0.5, 0.85)]],
    [[(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]],
    [[(0.2, 0.5), (0.8, 0.5)]],
    [[(0.2, 0.15), (0.2, 0.85)], [(0.5, 0.15), (0.5, 0.85)], [(0.8, 0.15), (0.8, 0.85)]],
]
"""Five symbols, in parts of the side of their box."""


@pytest.fixture(scope="module")
def address(run):
    with Server(network.load(run), steps=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def draw(page, canvas, strokes, shift=0.0):
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def at(point):
        return (box["x"] + (point[0] + shift) * box["width"], box["y"] + point[1] * box["height"])

    for first, *others in strokes:
        page.mouse.move(*at(first))
        page.mouse.down()
        for point in others:
            page.mouse.move(*at(point), steps=8)
        page.mouse.up()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("asked", [1, 4])
def test_a_drawing_is_recognised(address, browser, width, asked):
    context = browser.new_context(viewport={"width": width, "height": 844})
    page, said, requests = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    assert page.inner_text("#said") == "6 to draw"
    pads = page.locator(".pad canvas")
    for number, strokes in enumerate([*STROKES, STROKES[asked]]):
        draw(page, pads.nth(number), strokes, shift=0.04 if number == 5 else 0)
    page.wait_for_function("document.querySelector('#said').textContent.startsWith('It is')")
    assert page.inner_text("#said") == f"It is symbol {asked + 1}, the network says."
    assert page.locator("tbody tr").count() == 3  # before, and after each of two steps
    shown = page.locator("tbody tr").last.locator("td").all_inner_texts()
    percent = [float(re.fullmatch(r"(\d+\.\d) %", text.strip())[1]) for text in shown]
    assert percent.index(max(percent)) == asked
    assert sum(percent) == pytest.approx(100, abs=0.3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pads.nth(5).locator("xpath=..").get_by_text("clear").click()
    assert page.inner_text("#said") == "1 to draw"
    assert page.locator("#table").is_hidden()
    assert said == []
    assert {url for url in requests if not url.startswith("data:")} == {
        address,
        f"{address}recognise",
    }
    context.close()
