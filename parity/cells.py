"""What is compared: every algorithm on every model, at few and at several inner steps.

A new algorithm is an entry of `ALGORITHMS` and a loop in `reference.py`; a new model is an entry of
`MODELS` and a function in `models.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
import torch.nn.functional as F  # noqa: N812
from flax import nnx

import maml_jax as mj
from maml_jax.types import Apply, Params
from parity import models, reference
from parity.models import Forward
from parity.reference import Reference
from parity.weights import Flattened

TASKS = 3
INNER_STEPS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """An algorithm on both sides."""

    learner: Callable[..., mj.MetaLearner]
    reference: Reference
    differentiate: tuple[str | None, ...]
    """The inner-gradient operators to try, all of which must agree; None: it has but one."""


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

    @property
    def name(self) -> str:
        """Like `maml/conv4-stride/5/mixed`: algorithm, model, inner steps, operator."""
        parts = (self.algorithm, self.model, str(self.inner_steps), self.differentiate)
        return "/".join(part for part in parts if part is not None)

    def learner(self, apply: Apply) -> mj.MetaLearner:
        """The learner of `maml_jax` that is under test."""
        model = MODELS[self.model]
        options: dict[str, Any] = {"loss": model.loss.jax}
        if self.differentiate is not None:
            options["differentiate"] = self.differentiate
        make = ALGORITHMS[self.algorithm].learner
        return make(apply, inner_lr=model.inner_lr, inner_steps=self.inner_steps, **options)


class Problem(NamedTuple):
    """Where both sides start from."""

    params: Params
    """float64 NumPy arrays in Flax's layout."""
    apply: Apply
    episodes: mj.Episode
    """float64 and int64 NumPy arrays; the leading axis counts the tasks."""


def build(cell: Cell, seed: int) -> Problem:
    """The weights and the episodes of `cell`, a function of `seed` alone."""
    model = MODELS[cell.model]
    generator = np.random.default_rng(seed)
    shapes, apply = mj.from_flax(nnx.eval_shape(lambda: model.flax(nnx.Rngs(0))))
    params = jax.tree.map_with_path(lambda path, leaf: _draw(generator, path, leaf.shape), shapes)
    return Problem(params, apply, model.episodes(generator))


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
    "maml": Algorithm(
        learner=mj.maml, reference=reference.maml, differentiate=("mixed", "reverse")
    ),
    "fomaml": Algorithm(learner=mj.fomaml, reference=reference.fomaml, differentiate=(None,)),
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
}

CELLS = tuple(
    Cell(name, model, steps, differentiate)
    for name, algorithm in ALGORITHMS.items()
    for model in MODELS
    for steps in INNER_STEPS
    for differentiate in algorithm.differentiate
)
