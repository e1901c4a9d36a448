"""What JAX alone computes slowly on a CPU: each task's own convolutions, and small tasks."""

from maml_jax.kernels.convolution import convolve
from maml_jax.kernels.small_tasks import are_small, sum_tasks

__all__ = ["are_small", "convolve", "sum_tasks"]
