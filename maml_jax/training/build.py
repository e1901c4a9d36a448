"""From a config to the things it names: data, model, learner."""

import re
from typing import Any, NamedTuple

import optax
from flax import nnx

from maml_jax import models, registry
from maml_jax.adapters.flax import from_flax
from maml_jax.adapters.precision import in_precision
from maml_jax.data import DataSet, load
from maml_jax.training.config import TAKEN_BY, Config
from maml_jax.types import Apply, MetaLearner, Params


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
    data = load_data(config)
    params, apply = from_flax(build_model(config, data))
    learner = build_learner(config, apply, data)
    learner.init(params)  # says whether the algorithm can take this model
    return Problem(learner, params, data)


def load_data(config: Config, name: str | None = None, **fit: Any) -> DataSet:
    """The config's data, or, to test on, that of another `name`, its images made to `fit`."""
    own: dict[str, Any] = {
        option: getattr(config, option) for option in ("class_split", "image_size", "channels")
    }
    return load(
        name or config.data,
        config.data_dir,
        config.split_seed,
        in_memory_gb=config.in_memory_gb,
        **(own if name is None else fit),
    )


def build_learner(config: Config, apply: Apply, data: DataSet) -> MetaLearner:
    """The config's algorithm for that model in its precision, with the options that it takes."""
    options: dict[str, Any] = {"loss": data.loss, "inner_steps": config.inner_steps}
    taken = [name for name, takers in TAKEN_BY.items() if config.algorithm in takers]
    options |= {name: getattr(config, name) for name in taken if name not in _OTHERWISE}
    if config.adapts is not None:
        pattern = re.compile(config.adapts)
        options["adapts"] = lambda path: pattern.search(path) is not None
    if "inner_batch" in taken:
        options["batch_size"] = config.inner_batch
    if "inner_optimizer" in taken:
        options["inner_optimizer"] = _inner_optimizer(config)
    else:
        options["inner_lr"] = config.inner_lr
    if config.algorithm == "pretrained":
        options["classes"] = data.labels("train")
    algorithm = registry.find("algorithms", config.algorithm)
    return algorithm(in_precision(apply, config.precision), **options)


# What these say in a config is said otherwise to an algorithm.
_OTHERWISE = ("adapts", "inner_batch", "inner_clip", "inner_optimizer")


def _inner_optimizer(config: Config) -> optax.GradientTransformation:
    steps = {
        "sgd": lambda lr: optax.sgd(lr),
        "momentum": lambda lr: optax.sgd(lr, momentum=0.9),
        "adam": lambda lr: optax.adam(lr, b1=0.0, eps_root=1e-8),
    }[config.inner_optimizer](config.inner_lr)
    if config.inner_clip is None:
        return steps
    return optax.chain(optax.clip_by_global_norm(config.inner_clip), steps)


def build_model(config: Config, data: DataSet) -> nnx.Module:
    """The model for the shape of the data's examples, its weights drawn by `config.seed`."""
    rngs = nnx.Rngs(config.seed)
    outputs = data.outputs(config.ways)
    if config.model == "mlp":
        features = 1
        for size in data.input_shape:
            features *= size
        return models.MLP(features, config.hidden, outputs, batch_norm=features > 1, rngs=rngs)
    if config.model in ("gru", "lstm"):
        values = data.input_shape[-1]
        return models.Recurrent(values, config.hidden[0], outputs, config.model, rngs=rngs)
    size, _, channels = data.input_shape
    if config.model == "resnet12":
        widths = [config.filters * n // 64 for n in (64, 160, 320, 640)]
        return models.ResNet12(outputs, channels, widths, size, rngs=rngs)
    if config.model == "article-cnn":
        return models.ArticleCNN(outputs, channels, size, rngs=rngs)
    return models.Conv4(outputs, channels, config.filters, config.downsample, size, rngs=rngs)
