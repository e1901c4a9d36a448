"""Flax NNX models of the few-shot literature; `maml_jax.from_flax` makes them plain functions."""

from maml_jax.models.article_cnn import ArticleCNN
from maml_jax.models.conv4 import Conv4
from maml_jax.models.mlp import MLP

__all__ = ["MLP", "ArticleCNN", "Conv4"]
