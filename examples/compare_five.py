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
# # Five algorithms, one loop
#
# An algorithm is a function that takes a model and returns a learner: five of them are five lines,
# and the loop that trains them is one. The tasks: someone traces five closed curves, once each.
# Then more tracings come, begun elsewhere on the curve, faster or slower and with a shaking hand.
# Which curve is which?

# %%
import time

import jax
import matplotlib.pyplot as plt
import optax
from flax import nnx

import maml_jax as mj

UPDATES = 1000
TASKS = 200

mj.use_all_cores()
data = mj.data.load("sequences")  # computed: no files
train = data.tasks("train", ways=5, shots=1, queries=5)
test = data.tasks("test", ways=5, shots=1, queries=10)
params, apply = mj.from_flax(mj.models.MLP(48, (128, 64), 5, batch_norm=True, rngs=nnx.Rngs(0)))

task = jax.tree.map(lambda leaf: leaf[0], test.batch(jax.random.key(0), 1))
figure, axes = plt.subplots(1, 5, figsize=(10, 2.2), layout="constrained")
for number, each in enumerate(axes):
    for tracing in task.query.x[task.query.y == number][:2]:
        each.plot(tracing[:, 0], tracing[:, 1], color="0.75")
    example = task.support.x[task.support.y == number][0]
    each.plot(example[:, 0], example[:, 1], color="#1f77b4")
    each.set(title=f"curve {number + 1}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Blue is the one example of each, grey are two of the tracings to be told apart.
#
# | | what adapts within a task | how the meta-gradient sees it |
# |---|---|---|
# | MAML | all weights | exactly, second derivatives included |
# | FOMAML | all weights | the inner gradient is taken for a constant |
# | ANIL | the head alone | exactly |
# | Meta-SGD | all weights, each at a rate that is learned too | exactly |
# | ProtoNet | nothing: the nearest class mean wins | there is no inner step |

# %%
learners = {
    "MAML": mj.maml(apply, inner_lr=0.4, inner_steps=1),
    "FOMAML": mj.fomaml(apply, inner_lr=0.4, inner_steps=1),
    "ANIL": mj.anil(apply, inner_lr=0.4, inner_steps=1),
    "Meta-SGD": mj.meta_sgd(apply, 0.4, inner_steps=1),
    "ProtoNet": mj.protonet(apply),
}

# %% [markdown]
# ## The loop
#
# The same first weights, the same tasks in the same order, the same optimiser. `meta` holds
# whatever an algorithm learns: Meta-SGD's has rates beside the weights, and nothing else here needs
# to know.

# %%
curves, scores = {}, {}
for name, learner in learners.items():
    start = time.perf_counter()
    meta, curves[name] = mj.train(
        learner,
        params,
        train,
        updates=UPDATES,
        tasks_per_update=32,
        optimizer=optax.adam(2e-3),
        updates_per_dispatch=50,
        progress=False,
    )
    steps = 0 if name == "ProtoNet" else 3
    scores[name] = mj.evaluate(learner, meta, test, count=TASKS, steps=steps)
    size = sum(leaf.size for leaf in jax.tree.leaves(meta))
    print(f"{name:9} {scores[name]}   {size:6} numbers, {time.perf_counter() - start:3.0f} s")

# %% [markdown]
# ## Side by side
#
# On the left the training tasks, on the right new curves after 0, 1, 2 and 3 inner steps, with the
# 95 % interval of the mean. Chance is 20 %.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for name, log in curves.items():
    left.plot(
        [entry["update"] for entry in log], [100 * entry["accuracy"] for entry in log], label=name
    )
    score = scores[name]
    right.errorbar(
        range(len(score.accuracy_per_step)),
        100 * score.accuracy_per_step,
        100 * score.accuracy_per_step_ci95,
        marker="o",
        capsize=3,
        label=name,
    )
left.set(xlabel="updates", ylabel="accuracy, %", title="training")
right.set(xlabel="inner steps", title="new curves", xticks=range(4))
right.legend()
plt.show()

# %% [markdown]
# One inner step was trained; what a second and a third add is up to the method. A thousand updates
# say little about what each can reach in the end: the [results](../results.md) page has long runs
# on Omniglot, and [algorithms](../algorithms.md) compares all of them on the same tasks.
#
# **Try it.** Add `"Reptile": mj.reptile(apply, inner_lr=0.4, inner_steps=5)` to the dictionary, or
# an algorithm [of your own](../your-own-algorithm.md).
