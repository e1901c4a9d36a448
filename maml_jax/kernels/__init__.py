"""What JAX alone computes slowly on a CPU: a convolution with each task's own kernel."""

from maml_jax.kernels.convolution import convolve

__all__ = ["convolve"]
