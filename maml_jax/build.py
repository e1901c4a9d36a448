"""From a config to the things it names: data, model, learner."""

from typing import NamedTuple

from flax import nnx

from maml_jax import algorithms, models
from maml_jax.config import Config
from maml_jax.data import DataSet, load
from maml_jax.flax_adapter import from_flax
from maml_jax.types import MetaLearner, Params


class Problem(NamedTuple):
    """What a run trains: the learner, the weights it starts from, and the data."""

    learner: MetaLearner
    params: Params
    data: DataSet


def build(config: Config) -> Problem:
    """Load the data and make the model and the learner.

    Raises:
      InputError: the data is not there, or the model does not fit it.
    """
    data = load(config.data, config.data_dir, config.split_seed)
    params, apply = from_flax(build_model(config, data))
    make = getattr(algorithms, config.algorithm.replace("-", "_"))
    learner = make(apply, config.inner_lr, config.inner_steps, loss=data.loss)
    return Problem(learner, params, data)


def build_model(config: Config, data: DataSet) -> nnx.Module:
    """The model for the shape of the data's examples, its weights drawn by `config.seed`."""
    rngs = nnx.Rngs(config.seed)
    outputs = data.outputs(config.ways)
    if config.model == "mlp":
        features = 1
        for size in data.input_shape:
            features *= size
        return models.MLP(features, config.hidden, outputs, batch_norm=features > 1, rngs=rngs)
    size, _, channels = data.input_shape
    if config.model == "article-cnn":
        return models.ArticleCNN(outputs, channels, size, rngs=rngs)
    return models.Conv4(outputs, channels, config.filters, config.downsample, size, rngs=rngs)
