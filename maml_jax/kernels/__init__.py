"""Convolution with its derivatives, fast where each task has weights of its own."""

from maml_jax.kernels.convolution import convolve

__all__ = ["convolve"]
