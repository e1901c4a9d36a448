"""`python -m maml_jax`: the program `maml-jax`."""

from maml_jax.cli import program

program()
