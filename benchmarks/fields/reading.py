"""Test-time training: a model of characters that adapts as it reads a file it never saw.

The texts are the modules of the Python standard library that is running. A network predicts each
character from the 12 before it. A file is read in 24 blocks of 128 characters: it is scored on each
block before it takes a step on it, and the outer objective is the mean of these scores, so that the
weights and a rate for each layer are learned for being adapted so.
Claim: bits per character on held-out modules, against the same network trained to predict without
adapting, in four times as many updates, read as it is, or adapted as it reads at the best of
several rates, chosen on these modules.
Repeat: `python -m benchmarks.fields.reading`.
"""

import math
import sys
import sysconfig
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maml_jax as mj
from benchmarks.fields import dense, network, report, train
from maml_jax.problems.bilevel import Differentiation

BEFORE, BLOCK, BLOCKS, EMBEDDING, SYMBOLS = 12, 128, 24, 8, 97
UPDATES, TASKS, RATE, TEST_FILES = 800, 4, 4e-3, 30
LONGER = 4
"""How many times as many updates the network has that learns without adapting: each is cheaper."""
RATES = (0.01, 0.03, 0.1, 0.3)
LENGTH = BLOCK * BLOCKS + BEFORE


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Modules of at least a task's length, as symbols: `(training, held-out)`, each `[n, …]`.

    Printable ASCII and the line's end have a symbol each, all else has one together. Every fifth
    module in the order of names is held out. Only the first 12,000 characters of a module count.
    """
    folder, found = Path(sysconfig.get_path("stdlib")), []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")[:12_000]
        if len(text) == 12_000:
            codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int32)
            printable = (codes >= 32) & (codes < 127)
            found.append(np.where(printable, codes - 32, np.where(codes == 10, 95, 96)))
    held = np.arange(len(found)) % 5 == 4
    return np.stack(found)[~held], np.stack(found)[held]


def as_blocks(text: jax.Array) -> mj.Batch:
    """`x: [blocks, characters, BEFORE]` and `y: [blocks, characters]` of so many characters."""
    places = jnp.arange(BLOCKS * BLOCK)
    x = text[places[:, None] + jnp.arange(BEFORE)].reshape(BLOCKS, BLOCK, BEFORE)
    return mj.Batch(x, text[places + BEFORE].reshape(BLOCKS, BLOCK))


def bits(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The mean cross-entropy of a block, in bits per character."""
    embedded = weights["embedding"][batch.x].reshape(len(batch.x), -1)
    logits = network(weights["net"], embedded)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
    return losses.mean() / math.log(2)


def reader(rates: Any, differentiate: Differentiation = "mixed") -> mj.MetaLearner:
    """The learner that reads a stream of blocks."""
    return mj.bilevel(
        bits,
        bits,
        lambda hyper: hyper["rates"],
        BLOCKS,
        hyper={"rates": rates},
        stream=True,
        outer_steps="each",
        differentiate=differentiate,
    )


def measure(seed: int) -> dict[str, float]:
    """Bits per character of each method on held-out modules."""
    known, unseen = (jnp.asarray(part) for part in texts())
    rng = np.random.default_rng(seed)
    params = {
        "embedding": jnp.asarray(rng.normal(size=(SYMBOLS, EMBEDDING)), jnp.float32),
        "net": dense(rng, (BEFORE * EMBEDDING, 96, SYMBOLS)),
    }

    def excerpt(texts: jax.Array, key: jax.Array) -> mj.Episode:
        which, place = jax.random.split(key)
        text = texts[jax.random.randint(which, (), 0, len(texts))]
        start = jax.random.randint(place, (), 0, texts.shape[1] - LENGTH + 1)
        blocks = as_blocks(jax.lax.dynamic_slice(text, (start,), (LENGTH,)))
        return mj.Episode(blocks, blocks)

    def sample(key: jax.Array) -> mj.Episode:
        return excerpt(known, key)

    start = {"embedding": jnp.asarray(0.1), "net": {f"layer{i}": jnp.asarray(0.1) for i in (0, 1)}}
    zero = jax.tree.map(jnp.zeros_like, start)
    learner, still = reader(start), reader(zero, differentiate="first_order")
    meta = train(
        learner, learner.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )

    def without_rates(meta: Any, rates: Any) -> Any:
        return {"params": meta["params"], "hyper": {"rates": rates}}

    def unadapted(weights: Any, _: Any, batch: mj.Batch, key: Any) -> Any:
        whole = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
        return bits(weights, None, whole, key)

    together = mj.bilevel(unadapted, unadapted, 0.0, 0)
    joint = train(
        together,
        together.init(params),
        sample,
        updates=LONGER * UPDATES,
        tasks=TASKS,
        rate=RATE,
        seed=seed,
    )
    keys = jax.random.split(jax.random.key(1000), TEST_FILES)
    tests = jax.vmap(lambda key: excerpt(unseen, key))(keys)

    @jax.jit
    def score(meta: Any) -> jax.Array:
        def one(episode: mj.Episode) -> jax.Array:
            return still.value_and_grad(meta, episode)[0][0]

        return jax.lax.map(one, tests).mean()

    def best(meta: Any) -> float:
        each = (jax.tree.map(lambda _, r=rate: jnp.asarray(r), start) for rate in RATES)
        return min(float(score(without_rates(meta, rates))) for rates in each)

    return {
        "meta-learned weights and rates, adapted as it reads": float(score(meta)),
        "the same weights, unadapted": float(score(without_rates(meta, zero))),
        "trained without adapting, unadapted": float(score(without_rates(joint, zero))),
        "trained without adapting, adapted at the best rate": best(joint),
        "from scratch, adapted at the best rate": best({"params": params}),
    }


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.reading",
            __doc__,
            measure,
            "bits per character",
            updates=UPDATES,
            outer_rate=RATE,
            updates_without_adapting=LONGER * UPDATES,
            tasks=TASKS,
            blocks=BLOCKS,
            characters=BLOCK,
            test_excerpts=TEST_FILES,
            rates=RATES,
            python=sys.version.split()[0],
        )
    )
