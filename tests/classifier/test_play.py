"""`maml-jax play`: drawings in, probabilities after each inner step out; all else is refused."""

import base64
import http.client
import json
import re
import socket
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

import maml_jax as mj
from maml_jax.classifier import network
from maml_jax.classifier.play import LONGEST, SIDE, Server, recognise
from maml_jax.cli import main
from maml_jax.errors import InputError

pytestmark = pytest.mark.xdist_group("classifier")  # one process trains the run

LINES = [
    [(20, 20, 90, 90), (90, 20, 20, 90)],
    [(15, 25, 95, 25), (56, 25, 56, 95)],
    [(20, 20, 90, 20), (90, 20, 20, 90), (20, 90, 90, 90)],
    [(20, 56, 90, 56)],
    [(56, 15, 56, 95), (20, 15, 20, 95), (90, 15, 90, 95)],
]


def drawn(lines, shift=0):
    paper = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(paper)
    for line in lines:
        pen.line([end + shift for end in line], fill=255, width=6)
    return np.asarray(paper)


def drawings(asked):
    return np.stack([*map(drawn, LINES), drawn(LINES[asked], shift=3)])


@pytest.fixture(scope="module")
def server(run):
    with Server(network.load(run), steps=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, method, path, body=b"", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, content


def post(server, body, kind="application/json", **headers):
    return ask(server, "POST", "/recognise", body, Content_Type=kind, **headers)


def with_ink(ink):
    return json.dumps({"ink": base64.b64encode(bytes(ink)).decode()}).encode()


@pytest.mark.parametrize("asked", range(5))
def test_it_is_the_learner_after_each_step(run, server, asked):
    """The pixels as the data set has them, the weights of the path, each beside the support set."""
    ink = drawings(asked)
    status, answer = post(server, with_ink(ink.tobytes()))
    assert status == 200, answer
    learner, meta, config = mj.load(run)
    size = (28, 28)
    x = [Image.fromarray(one).resize(size, Image.Resampling.LANCZOS) for one in ink]
    x = jnp.asarray(np.stack(x)[..., None] / np.float32(255))
    support = mj.Batch(x[:5], jnp.arange(5))
    path = learner.trajectory(meta, support, 2)
    expected = []
    for step in range(3):
        fast = jax.tree.map(lambda leaf, step=step: leaf[step], path)
        expected.append(jax.nn.softmax(learner.predict(fast, x)[-1]))
    found = np.array(json.loads(answer)["probabilities"])
    assert config.data == "omniglot"  # whose strokes are bright, as ink is
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_a_model_of_dark_strokes_is_given_them(run):
    model = network.load(run)
    assert model.bright_on_dark
    dark = model._replace(bright_on_dark=False)
    ink = drawings(1)
    np.testing.assert_array_equal(recognise(dark, ink, 1), recognise(model, 255 - ink, 1))
    assert not np.allclose(recognise(dark, ink, 1), recognise(model, ink, 1))


def test_steps_are_those_of_the_evaluation_where_none_are_named(run):
    model, steps = network.load(run), mj.load(run).config.evaluation_steps
    assert len(recognise(model, drawings(0))) == steps + 1
    assert len(recognise(model, drawings(0), 0)) == 1


def test_a_model_that_takes_no_images_is_refused(run):
    model = network.load(run)._replace(input_shape=(16, 2))
    with pytest.raises(InputError, match=r"`run` was a model of examples \(16, 2\); a drawing is"):
        Server(model)


def test_the_page_stands_alone(server):
    status, page = ask(server, "GET", "/")
    assert status == 200
    assert f'{{"side": {SIDE}, "symbols": 5}}' in page
    assert "{{" not in page
    assert not re.search(r"https?:|src=|@import|url\(", page)


def test_it_is_for_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    good = with_ink(drawings(0).tobytes())
    for host in ("example.org", "", f"example.org:{server.server_port}"):
        for status, said in (ask(server, "GET", "/", Host=host), post(server, good, Host=host)):
            assert (status, said) == (400, f"the host must be 127.0.0.1:{server.server_port}")
    assert ask(server, "GET", "/", Host=f"localhost:{server.server_port}")[0] == 200


WHOLE = 6 * SIDE**2


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"", "must be a field of a JSON object, in base64"),
        (b"\xff\xfe", "must be a field of a JSON object"),
        (b"null", "must be a field of a JSON object"),
        (b"[1, 2]", "must be a field of a JSON object"),
        (b"{}", "must be a field of a JSON object"),
        (b"[" * 100_000, "must be a field of a JSON object"),
        (b'{"ink": 5}', "must be a field of a JSON object"),
        (b'{"ink": ["AA=="]}', "must be a field of a JSON object"),
        (b'{"ink": "A"}', "must be a field of a JSON object"),
        (b'{"ink": "\\u00e9AAA"}', "must be a field of a JSON object"),
        (with_ink(b""), f"was 0 bytes; it must be {WHOLE}"),
        (with_ink(bytes(WHOLE - 1)), f"was {WHOLE - 1} bytes; it must be {WHOLE}"),
        (with_ink(bytes(WHOLE + 1)), f"was {WHOLE + 1} bytes; it must be {WHOLE}"),
    ],
)
def test_a_bad_request_gets_one_line(server, body, line):
    status, said = post(server, body)
    assert status == 400
    assert line in said
    assert "\n" not in said


def test_what_is_not_asked_for_is_refused(server):
    good = with_ink(drawings(0).tobytes())
    assert post(server, good, kind="text/plain") == (400, "the content must be application/json")
    assert ask(server, "POST", "/", good, Content_Type="application/json")[0] == 404
    assert ask(server, "GET", "/../play.py")[0] == 404
    assert ask(server, "PUT", "/recognise", good)[0] == 501


@pytest.mark.parametrize("length", [str(LONGEST + 1), "9" * 5000, "-1", "x", "", "²"])
def test_no_more_is_read_than_drawings_take(server, length):
    """The answer comes without the content, of which none is sent."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as link:
        head = f"POST /recognise HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        link.sendall(head.encode("latin-1"))
        said = link.makefile("rb").read().decode()
    assert said.startswith("HTTP/1.0 400 ")
    assert said.endswith(f"the content must have a length of at most {LONGEST} bytes")


def test_bad_options_end_in_one_line(run, server, tmp_path, capsys):
    for words, line in (
        ([str(run), "--port", str(server.server_port)], r"--port was \d+; Address already in use"),
        ([str(run), "--port", "70000"], "--port was 70000; it must be at most 65535"),
        ([str(run), "--port", "-1"], "--port was -1"),
        ([str(run), "--steps", "-1"], "--steps was -1"),
        ([str(tmp_path)], "RUN was .*config.json"),
    ):
        capsys.readouterr()
        assert main(["play", *words]) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(f"maml-jax play: {line}.*\n", said), said
