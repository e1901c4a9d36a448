"""Flax NNX models of the few-shot literature; `maml_jax.from_flax` makes them plain functions.

The folder is the register: `conv4.py` is the model `conv4`, built by its `from_config`.
"""

from maml_jax.models.article_cnn import ArticleCNN
from maml_jax.models.conv4 import Conv4
from maml_jax.models.layers import Recurrent
from maml_jax.models.mlp import MLP
from maml_jax.models.resnet12 import ResNet12

__all__ = ["MLP", "ArticleCNN", "Conv4", "Recurrent", "ResNet12"]
