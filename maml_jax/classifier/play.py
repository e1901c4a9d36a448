"""A page on which one draws symbols, and sees another recognised after each inner step."""

import base64
import json
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.classifier import inputs
from maml_jax.classifier.network import Network
from maml_jax.core.learner import beside
from maml_jax.errors import InputError
from maml_jax.types import Batch, Meta, MetaLearner

SIDE = 112
"""Pixels of a drawing: a byte of ink each, 0 on paper and 255 where the pen was."""
SYMBOLS = 5
"""Drawings to learn from, one of each class, where the head tells as many apart."""
LONGEST = 2**20
"""Bytes of a request."""
PAGE = Path(__file__).with_name("play.html")


def recognise(network: Network, drawings: np.ndarray, steps: int | None = None) -> np.ndarray:
    """The probability of each symbol, of the last drawing, after 0, 1, … inner steps.

    Args:
      network: what learns.
      drawings: `[symbols + 1, SIDE, SIDE]` uint8, the ink: one of each symbol, then the one to
        recognise.
      steps: inner steps; None: those of the run's evaluation.

    Returns:
      `[steps + 1, symbols]`: the softmax of the logits, beside the support set as in
      `learner.classify`.
    """
    pixels = drawings if network.bright_on_dark else 255 - drawings
    x = jnp.asarray(inputs.from_array(pixels, network.input_shape, "squash", None))
    symbols = len(drawings) - 1
    support = Batch(x[:-1], jnp.arange(symbols, dtype=jnp.int32))
    steps = network.steps if steps is None else steps
    logits = _logits(network.learner, steps, network.meta, support, x[-1:])
    return np.asarray(jax.nn.softmax(logits[:, 0, :symbols]))


@partial(jax.jit, static_argnums=(0, 1))
def _logits(
    learner: MetaLearner, steps: int | None, meta: Meta, support: Batch, x: jax.Array
) -> jax.Array:
    path = learner.trajectory(meta, support, steps)
    return jax.lax.map(lambda fast: beside(learner.predict, fast, support.x, x), path)


class Server(HTTPServer):
    """Serves the page, on this machine alone, and answers its drawings.

    Args:
      network: what learns; it takes images.
      steps: as in `recognise`.
      port: to listen at; 0: any that is free.

    Raises:
      InputError: a network that does not take images, or a port that is taken.
    """

    def __init__(self, network: Network, *, steps: int | None = None, port: int = 0):
        if len(network.input_shape) != 3:
            raise InputError(
                f"`run` was a model of examples {network.input_shape}; a drawing is an image."
            )
        self.network, self.steps = network, steps
        self.symbols = min(SYMBOLS, network.ways)
        recognise(network, self._drawings(bytes((self.symbols + 1) * SIDE**2)), steps)  # compiles
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"`port` was {port}; {error.strerror}.") from error

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def answer(self, content: bytes) -> dict[str, Any]:
        """What the page is told of the drawings in a request.

        Raises:
          InputError: it holds no drawings.
        """
        try:
            request = json.loads(content)
            ink = base64.b64decode(request["ink"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError("`ink` must be a field of a JSON object, in base64.") from error
        per_step = recognise(self.network, self._drawings(ink), self.steps)
        return {"probabilities": [[float(p) for p in row] for row in per_step]}

    def _drawings(self, ink: bytes) -> np.ndarray:
        shape = (self.symbols + 1, SIDE, SIDE)
        if len(ink) != np.prod(shape):
            raise InputError(f"`ink` was {len(ink)} bytes; it must be {np.prod(shape)}: {shape}.")
        return np.frombuffer(ink, np.uint8).reshape(shape)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed before its answer came is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    """Seconds that a connection may keep others waiting."""
    server: Server

    def do_GET(self) -> None:
        if not self._is_from_here():
            return
        if self.path != "/":
            self._send(404, "there is one page: /")
            return
        facts = {"side": SIDE, "symbols": self.server.symbols}
        page = PAGE.read_text(encoding="utf-8").replace("{{facts}}", json.dumps(facts))
        self._send(200, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if not self._is_from_here():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/recognise":
            self._send(404, "drawings go to /recognise")
        elif self.headers.get("Content-Type") != "application/json":
            self._send(400, "the content must be application/json")  # which no other site can send
        elif not (length.isascii() and length.isdigit() and int(length[:9]) <= LONGEST):
            self._send(400, f"the content must have a length of at most {LONGEST} bytes")
        else:
            try:
                answer = self.server.answer(self.rfile.read(int(length)))
            except InputError as error:
                self._send(400, str(error))
            else:
                self._send(200, json.dumps(answer), "application/json")

    def _is_from_here(self) -> bool:
        """Whether the request is for this machine by its own name: no other's page is answered."""
        port = self.server.server_port
        if self.headers.get("Host") in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return True
        self._send(400, f"the host must be 127.0.0.1:{port}")
        return False

    def _send(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
            "connect-src 'self'; img-src data:; frame-ancestors 'none'",
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: the page says what there is to say."""
