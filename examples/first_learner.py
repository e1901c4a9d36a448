# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your first learner
#
# Ten points of a curve, and the rest of it is to be drawn. A network that starts from random
# weights cannot do that. One that has seen many curves of the kind can, if it starts from weights
# that were chosen so that **a few gradient steps on ten points** are enough. Such weights are what
# MAML learns (Finn, Abbeel and Levine 2017); the task here, sine curves of any height and phase, is
# theirs too.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import maml_jax as mj

UPDATES = 6000

mj.use_all_cores()
data = mj.data.load("sinusoid")

# %% [markdown]
# ## A task
#
# A task has a *support* set, from which the network learns, and a *query* set, on which it is
# judged. `tasks.batch` draws as many tasks as you like; the first axis of each array counts them.

# %%
tasks = data.tasks("train", shots=10, queries=10)
episodes = tasks.batch(jax.random.key(0), 4)
print("support:", episodes.support.x.shape, " query:", episodes.query.x.shape)

figure, axes = plt.subplots(1, 4, figsize=(10, 2.2), sharey=True, layout="constrained")
for number, each in enumerate(axes):
    each.plot(episodes.support.x[number], episodes.support.y[number], "o", label="support")
    each.plot(episodes.query.x[number], episodes.query.y[number], "x", label="query")
    each.set_title(f"task {number + 1}")
axes[0].legend()
plt.show()

# %% [markdown]
# ## A learner
#
# A model is a function of its weights, `apply(params, x)`. `mj.maml` adds how a task is learned:
# here by one step of gradient descent at a rate of 0.01.

# %%
params, apply = mj.from_flax(mj.models.MLP(1, (40, 40), 1, rngs=nnx.Rngs(0)))
learner = mj.maml(apply, inner_lr=0.01, inner_steps=1, loss=data.loss)
meta = learner.init(params)

task = jax.tree.map(lambda leaf: leaf[0], episodes)
(loss, metrics), gradient = learner.value_and_grad(meta, task)
print(f"query loss after one inner step: {loss:.3f}")

# %% [markdown]
# `gradient` is the *meta-gradient*: the derivative of the query loss, **through the inner step**,
# by the weights that the step started from. Nothing hides it. To check it, move the weights a
# little along the gradient and see how far the loss goes:

# %%
small = 1e-3
length = optax.tree.norm(gradient)
moved = jax.tree.map(lambda w, g: w + small * g / length, meta, gradient)
(further, _), _ = learner.value_and_grad(moved, task)
print(f"the loss grows by {(further - loss) / small:.3f}, the gradient's length is {length:.3f}")

# %% [markdown]
# ## Meta-training
#
# Draw some tasks, take the mean of their meta-gradients, let Adam make a step; then again.
# `mj.train` is that loop, many updates in one compiled program.

# %%
trained, log = mj.train(
    learner,
    params,
    tasks,
    updates=UPDATES,
    tasks_per_update=25,
    optimizer=optax.adam(1e-3),
    updates_per_dispatch=100,
    progress=False,
)
mj.plot_curve(log)

# %% [markdown]
# ## What it has learned
#
# A new curve. The two networks have the same layers and make the same inner steps on the same ten
# points. One starts from random weights, the other from those that MAML found.

# %%
new = jax.tree.map(
    lambda leaf: leaf[0], data.tasks("test", shots=10, queries=100).batch(jax.random.key(5), 1)
)
order = np.argsort(new.query.x[:, 0])
x, y = new.query.x[order], new.query.y[order]

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
for each, start, title in zip(axes, (meta, trained), ("random weights", "MAML"), strict=True):
    each.plot(x, y, color="0.75", linewidth=5, label="the curve")
    each.plot(new.support.x, new.support.y, "k^", label="ten points")
    for steps, colour in ((0, "#c0392b"), (1, "#1f77b4"), (10, "#1a7f4b")):
        fast = learner.adapt(start, new.support, steps=steps)
        each.plot(x, learner.predict(fast, x), color=colour, label=f"after {steps} steps")
    each.set_title(title)
axes[0].legend()
plt.show()

# %% [markdown]
# Before any step the trained network draws no good curve at all: its weights are no answer, but a
# place from which answers are near. Over many new tasks:

# %%
test = data.tasks("test", shots=10, queries=10)
for name, start in (("random weights", meta), ("MAML", trained)):
    scores = mj.evaluate(learner, start, test, count=200, steps=10)
    losses = ", ".join(f"{scores.loss_per_step[step]:.2f}" for step in (0, 1, 5, 10))
    print(f"{name:15} mean squared error after 0, 1, 5, 10 steps: {losses}")

# %% [markdown]
# **Try it.** Set `inner_steps=5` and train again: is it better after one step, or after ten?
# Replace `mj.maml` by `mj.fomaml`, which takes the inner gradient for a constant: how much is lost?
