"""The tasks on which both sides are compared, as float64 and int64 NumPy arrays."""

from typing import Any

import jax
import numpy as np

import maml_jax as mj

TASKS = 3
"""In every batch of episodes."""


def images(
    generator: np.random.Generator,
    *,
    ways: int,
    shots: int,
    queries: int,
    size: int,
    channels: int = 1,
) -> mj.Episode:
    """Classification episodes whose images have an empty background, flat bars and grey texture.

    Each class has its own drawing of two flat bars and one textured square; each image shifts it
    and redraws the texture. In the flat areas the candidates of a maximum are equal, which tests
    its derivative.
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
    """NumPy arrays where JAX arrays are declared: both sides take them and keep their dtype."""
    return mj.Batch(x, y)


def _stack(tasks: list[mj.Episode]) -> mj.Episode:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)
