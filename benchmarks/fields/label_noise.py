"""Wrong labels: a weight for each example by the hyper-gradient through 200 steps of training.

Of 600 digits (8x8, in scikit-learn) 40 % have a wrong label; 100 others are clean. The inner
problem trains a small network on the weighted noisy digits from scratch; the outer one is its loss
on the clean ones. The score is the AUC of finding the wrong labels by their small weights.
Claim: whether it finds them better than (a) the loss of the network trained on the noisy digits, at
the best of its steps, chosen by the score itself; (b) the loss of a network trained on the clean
ones alone; (c) the loss out of fold, in five folds, as confident learning has it; (d) the share of
the ten nearest neighbours with another label; and (b) and (d) together.
Repeat: `python -m benchmarks.fields.label_noise`.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import maml_jax as mj
from benchmarks.fields import dense, network, report

NOISY, CLEAN, WRONG = 600, 100, 0.4
INNER_STEPS, RATE, STORED = 200, 0.3, 30
UPDATES, OUTER_RATE = 40, 0.5


def digits(seed: int) -> tuple[mj.Batch, mj.Batch, np.ndarray]:
    """`(noisy, clean, which of the noisy ones are wrong)`."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))[: NOISY + CLEAN]
    x, y = x[order].astype(np.float32) / 16, y[order].astype(np.int32)
    wrong = np.zeros(NOISY, bool)
    wrong[rng.permutation(NOISY)[: int(WRONG * NOISY)]] = True
    given = y.copy()
    given[:NOISY][wrong] = (y[:NOISY][wrong] + rng.integers(1, 10, wrong.sum())) % 10
    noisy, clean = (
        mj.Batch(jnp.asarray(x[part]), jnp.asarray(given[part]))
        for part in (slice(NOISY), slice(NOISY, None))
    )
    return noisy, clean, wrong


def losses(weights: Any, batch: mj.Batch) -> jax.Array:
    """Of each example."""
    return optax.softmax_cross_entropy_with_integer_labels(network(weights, batch.x), batch.y)


def weighted(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The mean loss, by a weight for each example."""
    shares = jax.nn.sigmoid(meta["hyper"]["example"])
    return (shares * losses(weights, batch)).sum() / shares.sum()


def plain(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The mean loss."""
    return losses(weights, batch).mean()


def on_path(params: Any, train: mj.Batch, seen: mj.Batch) -> jax.Array:
    """The loss of each example seen, before each step of training, `[steps, examples]`."""

    def step(weights: Any, _: Any) -> Any:
        slopes = jax.grad(plain)(weights, None, train, None)
        moved = jax.tree.map(lambda w, g: w - RATE * g, weights, slopes)
        return moved, losses(weights, seen)

    return jax.lax.scan(step, params, length=INNER_STEPS)[1]


def out_of_fold(params: Any, noisy: mj.Batch) -> np.ndarray:
    """The loss of each example under a network that did not train on it."""
    found, fold = np.zeros(NOISY), np.arange(NOISY) % 5
    for number in range(5):
        held = fold == number
        rest, own = (
            jax.tree.map(lambda leaf, part=part: leaf[np.flatnonzero(part)], noisy)
            for part in (~held, held)
        )
        found[held] = jax.jit(on_path)(params, rest, own)[-1]
    return found


def disagreement(noisy: mj.Batch) -> np.ndarray:
    """The share of the ten nearest neighbours with another label."""
    x, y = np.asarray(noisy.x), np.asarray(noisy.y)
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(1)[:, :10]
    return (y[nearest] != y[:, None]).mean(1)


def measure(seed: int) -> dict[str, float]:
    """The AUC of each method."""
    noisy, clean, wrong = digits(seed)
    params = dense(np.random.default_rng(seed), (64, 32, 10))
    learner = mj.bilevel(
        weighted,
        plain,
        RATE,
        INNER_STEPS,
        hyper={"example": jnp.zeros(NOISY)},
        stored_steps=STORED,
    )
    meta, episode = learner.init(params), mj.Episode(noisy, clean)
    optimizer = optax.adam(OUTER_RATE)

    @jax.jit
    def update(hyper: Any, state: Any) -> Any:
        _, grads = learner.value_and_grad({**meta, "hyper": hyper}, episode)
        changes, state = optimizer.update(grads["hyper"], state)
        return optax.apply_updates(hyper, changes), state

    hyper, state = meta["hyper"], optimizer.init(meta["hyper"])
    for _ in range(UPDATES):
        hyper, state = update(hyper, state)
    path = np.asarray(jax.jit(on_path)(params, noisy, noisy))
    on_clean = np.asarray(jax.jit(on_path)(params, clean, noisy))[-1]
    scores = {
        "weights by the hyper-gradient through 200 steps": -np.asarray(hyper["example"]),
        "loss of a network trained on the clean 100": on_clean,
        "cross-validated loss": out_of_fold(params, noisy),
        "ten nearest neighbours": disagreement(noisy),
        "both: neighbours and the clean 100, mean rank": rankdata(disagreement(noisy))
        + rankdata(on_clean),
    }
    found = {name: float(roc_auc_score(wrong, score)) for name, score in scores.items()}
    found["loss on the noisy 600, best step"] = max(
        float(roc_auc_score(wrong, row)) for row in path
    )
    return found


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.label_noise",
            __doc__,
            measure,
            "AUC",
            inner_steps=INNER_STEPS,
            stored_steps=STORED,
            updates=UPDATES,
            noisy=NOISY,
            clean=CLEAN,
            wrong=WRONG,
        )
    )
