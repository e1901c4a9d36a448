"""The program `maml-jax`."""

from maml_jax.cli.commands import main, program

__all__ = ["main", "program"]
