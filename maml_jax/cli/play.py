"""The command `play`: a page on which one draws symbols and sees them recognised."""

from dataclasses import dataclass

from tyro.conf import Positional

from maml_jax.cli.messages import say
from maml_jax.errors import InputError, check_count


@dataclass(frozen=True)
class Play:
    """Draw symbols on a page in the browser, and see one recognised after each gradient step."""

    run: Positional[str] = "pretrained:omniglot-5w1s"
    """The folder of a run, or pretrained:NAME."""
    steps: int | None = None
    """Inner steps; the evaluation steps of the run's config where not given."""
    port: int = 8000
    """The page is at http://127.0.0.1:PORT/, for this machine alone; 0 takes any that is free."""

    def __call__(self) -> int:
        from maml_jax.classifier import network
        from maml_jax.classifier.play import Server

        if self.steps is not None:
            check_count("steps", self.steps, least=0)
        check_count("port", self.port, least=0)
        if self.port > 65535:
            raise InputError(f"`port` was {self.port}; it must be at most 65535.")
        with Server(network.load(self.run), steps=self.steps, port=self.port) as server:
            say(f"draw at {server.url} ; Ctrl-C ends it")
            server.serve_forever()
        return 0
