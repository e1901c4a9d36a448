"""From a config to the things it names: data, model, learner."""

import inspect
import re
from typing import Any, NamedTuple

import optax
from flax import nnx

from maml_jax import registry
from maml_jax.adapters.flax import from_flax
from maml_jax.adapters.precision import in_precision
from maml_jax.data import DataSet, load
from maml_jax.data.request import OF_IMAGES
from maml_jax.errors import InputError
from maml_jax.training.config import Config, options_of
from maml_jax.types import Apply, Examples, Loss, MetaLearner, Params


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
    params, apply = build_network(config, data.input_shape, data.outputs(config.ways))
    learner = build_learner(config, apply, data.loss, data.labels("train"))
    learner.init(params)  # says whether the algorithm can take this model
    return Problem(learner, params, data)


def load_data(config: Config, name: str | None = None, **fit: Any) -> DataSet:
    """The config's data, or, to test on, that of another `name`, its images made to `fit`."""
    options = {option: getattr(config, option) for option in OF_IMAGES}
    shots = max(config.shots, config.training_shots or 1)
    if name is not None:
        options, shots = fit, config.shots
    return load(
        name or config.data,
        config.data_dir,
        config.split_seed,
        in_memory_gb=config.in_memory_gb,
        ways=config.ways,
        shots=shots,
        **options,
    )


def build_model(config: Config, example_shape: tuple[int, ...], outputs: int) -> nnx.Module:
    """The config's model for examples of that shape, its weights drawn by `config.seed`.

    Raises:
      InputError: the model is not for such examples, or not with such options.
    """
    from_config = registry.find("models", config.model)
    return from_config(config, example_shape, outputs, nnx.Rngs(config.seed))


def build_network(
    config: Config, example_shape: tuple[int, ...], outputs: int
) -> tuple[Params, Apply]:
    """The weights of the config's model, and the model as a function of them and of examples.

    Raises:
      InputError: as `build_model`, or `input_range` for examples that are no images.
    """
    params, network = from_flax(build_model(config, example_shape, outputs))
    black, white = config.input_range
    if (black, white) == Config.input_range:
        return params, network
    if len(example_shape) != 3:
        raise InputError(
            f"`input_range` was {config.input_range}; it is for images, and an example of "
            f"{config.data} has the shape {example_shape}: leave it out."
        )

    def apply(params: Params, x: Examples, /) -> Examples:
        return network(params, black + (white - black) * x)

    return params, apply


def build_learner(
    config: Config, apply: Apply, loss: Loss, classes: int | None = None
) -> MetaLearner:
    """The config's algorithm for a model, in its precision, with the options that it takes.

    Args:
      config: the config.
      apply: the model, `apply(params, x) -> outputs`.
      loss: the data's, `loss(outputs, y) -> scalar`.
      classes: how many the train split has, for algorithms that learn to tell them all apart.
    """
    algorithm = registry.find("algorithms", config.algorithm)
    values = {name: getattr(config, name) for name in options_of(config.algorithm)}
    values |= {
        "loss": loss,
        "classes": classes,
        "inner_steps": config.inner_steps,
        "adapts": _predicate(config.adapts),
        "batch_size": config.inner_batch,
        **_inner_rule(config),
    }
    taken = inspect.signature(algorithm).parameters
    keywords = {name: value for name, value in values.items() if name in taken}
    return algorithm(
        in_precision(apply, config.precision),
        **{name: value for name, value in keywords.items() if value is not None},
    )


def _predicate(pattern: str | None) -> Any:
    if pattern is None:
        return None
    search = re.compile(pattern).search
    return lambda path: search(path) is not None


def _inner_rule(config: Config) -> dict[str, Any]:
    """The keyword of the inner steps: their rate, or an optimiser that is more than that."""
    if config.inner_optimizer == "sgd" and config.inner_clip is None:
        return {"inner_optimizer": None, "inner_lr": config.inner_lr}
    steps = {
        "sgd": lambda lr: optax.sgd(lr),
        "momentum": lambda lr: optax.sgd(lr, momentum=0.9),
        "adam": lambda lr: optax.adam(lr, b1=0.0, eps_root=1e-8),
    }[config.inner_optimizer](config.inner_lr)
    if config.inner_clip is not None:
        steps = optax.chain(optax.clip_by_global_norm(config.inner_clip), steps)
    return {"inner_optimizer": steps}
