"""A user's program: it is type-checked strictly against the installed wheel, and run."""

import jax
import jax.numpy as jnp
from jax import Array

import maml_jax as mj


def apply(params: dict[str, Array], x: Array) -> Array:
    return jnp.tanh(x @ params["body"]) @ params["head"]


def mean_absolute_error(outputs: Array, y: Array) -> Array:
    return jnp.abs(outputs - y).mean()


def is_head(path: str) -> bool:
    return path == "head"


keys = jax.random.split(jax.random.key(0), 4)
params = {
    "body": jax.random.normal(keys[0], (3, 8)),
    "head": jax.random.normal(keys[1], (8, 2)),
}
x, y = jax.random.normal(keys[2], (5, 6, 3)), jax.random.normal(keys[3], (5, 6, 2))
episodes = mj.Episode(mj.Batch(x, y), mj.Batch(x, y))
one: mj.Episode = jax.tree.map(lambda leaf: leaf[0], episodes)

learner: mj.MetaLearner = mj.maml(
    apply, inner_lr=0.1, inner_steps=2, loss=mean_absolute_error, adapts=is_head
)
meta = learner.init(params)
(loss, metrics), grads = jax.jit(mj.over_tasks(learner, chunk=2))(meta, episodes)
fast = learner.adapt(meta, one.support, steps=3)
outputs = learner.predict(fast, one.query.x)
classified = learner.classify(meta, one.support, one.query.x, transductive=True)
print(f"{float(loss):.3f} {sorted(metrics)} {outputs.shape} {classified.shape} {learner}")
