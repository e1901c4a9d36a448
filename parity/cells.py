"""What is compared: every algorithm on every model, at few and at several inner steps.

A new algorithm is an entry of `ALGORITHMS` and a file in `reference/`; a new model is an entry of
`MODELS` and a function in `models.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import torch.nn.functional as F  # noqa: N812
from flax import nnx

import maml_jax as mj
from maml_jax.types import Apply, Params
from parity import models, reference
from parity.models import Forward
from parity.reference import Reference
from parity.reference.imaml import DAMPING, SOLVER_STEPS, STRENGTH
from parity.reference.maml_plus_plus import MULTI_STEP_UNTIL, PROGRESS
from parity.weights import Flattened

TASKS = 3
INNER_STEPS = (1, 5)
UPDATES = 100
SMALL = ("mlp", "mlp-sinusoid")
"""The models on which every algorithm is compared at each number of inner steps."""
LONG = ("conv4-maxpool", "article-cnn", "lstm-sequences", "resnet12")
"""The models whose cells, but for MAML's and FOMAML's, are left to `--all`; resnet12's all are."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """An algorithm on both sides."""

    learner: Callable[..., mj.MetaLearner]
    reference: Reference
    differentiate: tuple[str | None, ...] = ("mixed", "reverse")
    """The inner-gradient operators to try, all of which must agree; None: it has but one."""
    optimizers: bool = True
    """Whether it takes any inner optimiser."""
    regression: bool = True
    """Whether it makes sense without classes."""
    progress: float = 1.0
    """The part of training at which it is compared."""


class Loss(NamedTuple):
    """A loss on both sides, a mean over examples."""

    jax: Callable[[jax.Array, jax.Array], jax.Array]
    torch: reference.Loss


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network on both sides, with the tasks to try it on."""

    flax: Callable[[nnx.Rngs], nnx.Module]
    torch: Forward
    episodes: Callable[[np.random.Generator], mj.Episode]
    loss: Loss
    inner_lr: float
    """Large enough that adaptation changes the outputs a lot, small enough not to diverge."""
    flattened: Flattened = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    algorithm: str
    model: str
    inner_steps: int
    differentiate: str | None = None
    optimizer: str = "sgd"
    updates: int = 0
    """Outer updates by Adam to compare as well."""

    @property
    def name(self) -> str:
        """Like `maml/conv4-stride/5/mixed/adam`: algorithm, model, inner steps, and what else."""
        parts = (self.algorithm, self.model, str(self.inner_steps), self.differentiate)
        optimizer = None if self.optimizer == "sgd" else self.optimizer
        updates = f"{self.updates}-updates" if self.updates else None
        return "/".join(part for part in (*parts, optimizer, updates) if part is not None)

    @property
    def by_default(self) -> bool:
        """Whether it is compared without being asked for; the rest take long to compile."""
        if self.model not in SMALL and (self.optimizer != "sgd" or self.updates):
            return False
        plain = self.algorithm in ("maml", "fomaml") and self.model != "resnet12"
        return plain or self.model not in LONG

    @property
    def inner_lr(self) -> float:
        """The inner rate: the model's, smaller for Adam, whose steps do not follow the gradient."""
        return 0.01 if self.optimizer == "adam" else MODELS[self.model].inner_lr

    def learner(self, apply: Apply) -> mj.MetaLearner:
        """The learner of `maml_jax` that is under test."""
        model = MODELS[self.model]
        options: dict[str, Any] = {"loss": model.loss.jax, "inner_steps": self.inner_steps}
        if self.differentiate is not None:
            options["differentiate"] = self.differentiate
        if self.optimizer == "momentum":
            options["inner_optimizer"] = optax.sgd(self.inner_lr, momentum=0.9)
        elif self.optimizer == "adam":
            options["inner_optimizer"] = optax.adam(self.inner_lr, eps_root=1e-6)
        else:
            options["inner_lr"] = self.inner_lr
        return ALGORITHMS[self.algorithm].learner(apply, **options)


class Problem(NamedTuple):
    """Where both sides start from."""

    params: Params
    """float64 NumPy arrays in Flax's layout."""
    apply: Apply
    episodes: mj.Episode
    """float64 and int64 NumPy arrays; the leading axis counts the tasks."""


def build(cell: Cell, seed: int) -> Problem:
    """The weights and the episodes of `cell`, a function of `seed` alone.

    All are float32 numbers, though in float64 arrays: either precision starts from the same.
    """
    model = MODELS[cell.model]
    generator = np.random.default_rng(seed)
    shapes, apply = mj.from_flax(nnx.eval_shape(lambda: model.flax(nnx.Rngs(0))))
    params = jax.tree.map_with_path(lambda path, leaf: _draw(generator, path, leaf.shape), shapes)
    params, episodes = jax.tree.map(to_single, (params, model.episodes(generator)))
    return Problem(params, apply, episodes)


def to_single(array: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers, in an array of the same dtype; integers as they are."""
    single = np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32).astype(array.dtype) if single else array


def _draw(generator: np.random.Generator, path: Any, shape: tuple[int, ...]) -> np.ndarray:
    # The models' own initial biases are 0 and scales 1, where a mix-up of two would not show.
    noise = generator.normal(size=shape)
    if len(shape) > 1:
        return noise * np.sqrt(2 / np.prod(shape[:-1]))
    return 0.1 * noise + (1.0 if path[-1].key == "scale" else 0.0)


def images(
    generator: np.random.Generator,
    *,
    ways: int,
    shots: int,
    queries: int,
    size: int,
    channels: int = 1,
) -> mj.Episode:
    """Classification episodes whose images have an empty background, flat ink and grey texture.

    Each class has its own drawing of two flat bars and one textured square; each image shifts it
    and redraws the texture. The flat areas matter: there the candidates of a maximum are equal.
    """
    bar, square = size // 5, size // 3

    def drawing():
        picture = np.zeros((size, size, channels))
        for shape in ((bar, size // 2), (size // 2, bar)):
            top, left = (generator.integers(2, size - side - 1) for side in shape)
            picture[top : top + shape[0], left : left + shape[1]] = generator.uniform(0.5, 1)
        return picture, generator.integers(2, size - square - 1, 2)

    def example(picture, corner):
        picture = picture.copy()
        top, left = corner
        texture = generator.uniform(size=(square, square, channels))
        picture[top : top + square, left : left + square] = texture
        return np.roll(picture, generator.integers(-2, 3, 2), (0, 1))

    def task():
        classes = [drawing() for _ in range(ways)]
        sets = []
        for per_class in (shots, queries):
            labels = generator.permutation(np.repeat(np.arange(ways), per_class))
            sets.append(_batch(np.stack([example(*classes[label]) for label in labels]), labels))
        return mj.Episode(*sets)

    return _stack([task() for _ in range(TASKS)])


def sequences(generator: np.random.Generator, *, ways: int, shots: int, queries: int) -> mj.Episode:
    """Classification episodes of noisy curves in the plane, seven points each."""

    def task():
        curves = generator.normal(size=(ways, 7, 2))
        sets = []
        for per_class in (shots, queries):
            labels = generator.permutation(np.repeat(np.arange(ways), per_class))
            noise = 0.2 * generator.normal(size=(len(labels), 7, 2))
            sets.append(_batch(curves[labels] + noise, labels))
        return mj.Episode(*sets)

    return _stack([task() for _ in range(TASKS)])


def sinusoids(generator: np.random.Generator, *, shots: int, queries: int) -> mj.Episode:
    """Regression episodes, `A sin(x − φ)` on [−5, 5] with A in [0.1, 5] and φ in [0, π]."""

    def task():
        amplitude, phase = generator.uniform(0.1, 5), generator.uniform(0, np.pi)
        x = generator.uniform(-5, 5, (shots + queries, 1))
        y = amplitude * np.sin(x - phase)
        return mj.Episode(_batch(x[:shots], y[:shots]), _batch(x[shots:], y[shots:]))

    return _stack([task() for _ in range(TASKS)])


def _batch(x: Any, y: Any) -> mj.Batch:
    """NumPy's arrays where JAX's are declared: both sides take them, and none has a wrong dtype."""
    return mj.Batch(x, y)


def _stack(tasks: list[mj.Episode]) -> mj.Episode:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)


_cross_entropy = Loss(mj.losses.softmax_cross_entropy, F.cross_entropy)
_squared_error = Loss(mj.losses.mean_squared_error, F.mse_loss)

ALGORITHMS = {
    "maml": Algorithm(learner=mj.maml, reference=reference.maml),
    "fomaml": Algorithm(learner=mj.fomaml, reference=reference.fomaml, differentiate=(None,)),
    "reptile": Algorithm(learner=mj.reptile, reference=reference.reptile, differentiate=(None,)),
    "imaml": Algorithm(
        learner=partial(
            mj.imaml, regularization=STRENGTH, damping=DAMPING, solver_steps=SOLVER_STEPS
        ),
        reference=reference.imaml,
        differentiate=(None,),
    ),
    "meta-sgd": Algorithm(learner=mj.meta_sgd, reference=reference.meta_sgd, optimizers=False),
    "meta-sgd-first-order": Algorithm(
        learner=partial(mj.meta_sgd, differentiate="first_order"),
        reference=reference.first_order_meta_sgd,
        differentiate=(None,),
        optimizers=False,
    ),
    "anil": Algorithm(learner=mj.anil, reference=reference.anil),
    "boil": Algorithm(learner=mj.boil, reference=reference.boil),
    "proto-maml": Algorithm(
        learner=mj.proto_maml, reference=reference.proto_maml, regression=False
    ),
    "proto-maml-first-order": Algorithm(
        learner=partial(mj.proto_maml, differentiate="first_order"),
        reference=reference.first_order_proto_maml,
        differentiate=(None,),
        regression=False,
    ),
    "protonet": Algorithm(
        learner=mj.protonet,
        reference=reference.protonet,
        differentiate=(None,),
        optimizers=False,
        regression=False,
    ),
    "maml-plus-plus": Algorithm(
        learner=partial(mj.maml_plus_plus, multi_step_until=MULTI_STEP_UNTIL),
        reference=reference.maml_plus_plus,
        optimizers=False,
        progress=PROGRESS,
    ),
    "cavia": Algorithm(learner=partial(mj.cavia, context_size=7), reference=reference.cavia),
    "meta-curvature": Algorithm(learner=mj.meta_curvature, reference=reference.meta_curvature),
    "pretrained": Algorithm(
        learner=mj.pretrained, reference=reference.pretrained, differentiate=(None,)
    ),
}

# Sizes are small but none is trivial: some image to be pooled has an odd side, and every flattened
# one has several positions and channels, so that a wrong order of them shows.
MODELS = {
    "conv4-stride": Model(
        flax=lambda rngs: mj.models.Conv4(5, filters=8, downsample="stride", rngs=rngs),
        torch=models.conv4_stride,
        episodes=lambda rng: images(rng, ways=5, shots=1, queries=2, size=28),
        loss=_cross_entropy,
        inner_lr=0.4,
    ),
    "conv4-maxpool": Model(
        flax=lambda rngs: mj.models.Conv4(
            3, in_channels=3, filters=8, downsample="maxpool", image_size=34, rngs=rngs
        ),
        torch=models.conv4_maxpool,
        episodes=lambda rng: images(rng, ways=3, shots=2, queries=2, size=34, channels=3),
        loss=_cross_entropy,
        inner_lr=0.2,
        flattened={"head": (2, 2, 8)},
    ),
    "article-cnn": Model(
        flax=lambda rngs: mj.models.ArticleCNN(5, image_size=20, rngs=rngs),
        torch=models.article_cnn,
        episodes=lambda rng: images(rng, ways=5, shots=1, queries=2, size=20),
        loss=_cross_entropy,
        inner_lr=0.1,
        flattened={"hidden": (3, 3, 64)},
    ),
    "mlp": Model(
        flax=lambda rngs: mj.models.MLP(12 * 12 * 3, (32, 16), 5, rngs=rngs),
        torch=models.mlp,
        episodes=lambda rng: images(rng, ways=5, shots=2, queries=2, size=12, channels=3),
        loss=_cross_entropy,
        inner_lr=0.3,
        flattened={"layers/0": (12, 12, 3)},
    ),
    "mlp-batch-norm": Model(
        flax=lambda rngs: mj.models.MLP(12 * 12 * 3, (32, 16), 5, batch_norm=True, rngs=rngs),
        torch=models.mlp_batch_norm,
        episodes=lambda rng: images(rng, ways=5, shots=2, queries=2, size=12, channels=3),
        loss=_cross_entropy,
        inner_lr=0.4,
        flattened={"layers/0": (12, 12, 3)},
    ),
    "mlp-sinusoid": Model(
        flax=lambda rngs: mj.models.MLP(1, (40, 40), 1, rngs=rngs),
        torch=models.mlp,
        episodes=lambda rng: sinusoids(rng, shots=10, queries=10),
        loss=_squared_error,
        inner_lr=0.001,
    ),
    "gru-sequences": Model(
        flax=lambda rngs: mj.models.Recurrent(2, 8, 3, "gru", rngs=rngs),
        torch=models.gru,
        episodes=lambda rng: sequences(rng, ways=3, shots=2, queries=2),
        loss=_cross_entropy,
        inner_lr=0.5,
    ),
    "lstm-sequences": Model(
        flax=lambda rngs: mj.models.Recurrent(2, 8, 3, "lstm", rngs=rngs),
        torch=models.lstm,
        episodes=lambda rng: sequences(rng, ways=3, shots=2, queries=2),
        loss=_cross_entropy,
        inner_lr=0.5,
    ),
    "resnet12": Model(
        flax=lambda rngs: mj.models.ResNet12(3, 1, (3, 4, 5, 6), 20, rngs=rngs),
        torch=models.resnet12,
        episodes=lambda rng: images(rng, ways=3, shots=2, queries=2, size=20),
        loss=_cross_entropy,
        inner_lr=0.1,
    ),
}


def _cells() -> Iterator[Cell]:
    """MAML and FOMAML everywhere; the others with the operators and steps that may differ.

    MAML is also compared on every model with every inner optimiser, and after outer updates.
    """
    for name, algorithm in ALGORITHMS.items():
        plain = name in ("maml", "fomaml")
        for model, facts in MODELS.items():
            if facts.loss is _squared_error and not algorithm.regression:
                continue
            for steps in INNER_STEPS if plain or model in SMALL else INNER_STEPS[-1:]:
                operators = algorithm.differentiate if plain else algorithm.differentiate[:1]
                for operator in operators if steps > 1 or plain else operators[:1]:
                    yield Cell(name, model, steps, operator)
        small = "mlp-sinusoid" if algorithm.regression else "mlp"
        operator = algorithm.differentiate[0]
        for model in MODELS if name == "maml" else (small,):
            if algorithm.optimizers:
                for optimizer in ("momentum", "adam"):
                    yield Cell(name, model, 5, operator, optimizer)
            yield Cell(name, model, 1, operator, updates=UPDATES)


CELLS = tuple(_cells())
