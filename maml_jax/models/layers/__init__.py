"""Layers that the models share, where the obvious form is slow, or wrong, in a meta-gradient."""

from maml_jax.models.layers.batch_norm import BatchNorm, normalise
from maml_jax.models.layers.conv import Conv, conv, conv_reference
from maml_jax.models.layers.pooling import max_pool
from maml_jax.models.layers.recurrent import Recurrent

__all__ = ["BatchNorm", "Conv", "Recurrent", "conv", "conv_reference", "max_pool", "normalise"]
