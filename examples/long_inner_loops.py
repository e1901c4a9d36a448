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
# # Long inner loops and memory
#
# The meta-gradient goes back through every inner step. What must be kept for that decides how many
# steps fit into memory. There are three ways here:
#
# | `differentiate` | keeps of each inner step | exact |
# |---|---|---|
# | `"reverse"` | all activations, as `torch.autograd` does | yes |
# | `"mixed"`, the default | the weights, once | yes |
# | `"first_order"` | nothing | no |
#
# "Mixed" is forward mode over reverse mode: the second derivative is only ever needed *along a
# vector*, and such a product can be made while the step is computed anew, without a tape of tapes
# (Kemaev et al. 2025).

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import maml_jax as mj

STEPS = (1, 5, 20, 50)

params, apply = mj.from_flax(mj.models.MLP(64, (64, 64), 5, rngs=nnx.Rngs(0)))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 500, 64)), np.arange(500) % 5  # 5-way 100-shot
support, query = (mj.Batch(jnp.asarray(each, jnp.float32), jnp.asarray(y)) for each in x)
episode = mj.Episode(support, query)
weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
print(f"the weights are {weights / 2**20:.2f} MiB, the examples {support.x.nbytes / 2**20:.2f} MiB")

# %% [markdown]
# ## What XLA sets aside
#
# A compiled program knows how much memory it needs besides its arguments and results. No program
# has to run for that, so the numbers below are exact, and the same on a machine that has too
# little.


# %%
def compiled(differentiate, steps):
    learner = mj.maml(apply, inner_lr=0.01, inner_steps=steps, differentiate=differentiate)
    return jax.jit(learner.value_and_grad).lower(learner.init(params), episode).compile()


memory = {
    way: [compiled(way, steps).memory_analysis().temp_size_in_bytes / 2**20 for steps in STEPS]
    for way in ("reverse", "mixed", "first_order")
}
for way, sizes in memory.items():
    print(f"{way:12}", "  ".join(f"{size:6.1f}" for size in sizes), "MiB")

# %%
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for way, sizes in memory.items():
    axes.plot(STEPS, sizes, marker="o", label=way)
axes.plot(STEPS, np.array(STEPS) * weights / 2**20, "k:", label="a copy of the weights each")
axes.set(xlabel="inner steps", ylabel="temporary memory, MiB")
axes.legend()
plt.show()

# %% [markdown]
# A further step costs "mixed" one copy of the weights. With "reverse" it costs the activations
# instead, which grow with the examples and their size: for convolutions they are nearly all of it,
# and [speed](../speed.md) has the same table for them. A wide dense network that sees a few
# examples is the other way round, since its weights are larger than its activations: there
# `"reverse"` keeps less.
#
# ## The same gradient
#
# Both are exact, so they differ by rounding alone. The first-order gradient differs by what it
# leaves out, and by more the longer the loop.

# %%
gradients = {}
for way in memory:
    learner = mj.maml(apply, inner_lr=0.01, inner_steps=10, differentiate=way)
    program = jax.jit(learner.value_and_grad)
    program(learner.init(params), episode)  # compiles
    start = time.perf_counter()
    (loss, _), gradients[way] = jax.block_until_ready(program(learner.init(params), episode))
    print(f"{way:12} {1000 * (time.perf_counter() - start):6.1f} ms")


def distance(one, other):
    """The relative length of the difference."""
    flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)]) for g in (one, other)]
    return float(jnp.linalg.norm(flat[0] - flat[1]) / jnp.linalg.norm(flat[1]))


for way in ("mixed", "first_order"):
    print(f"{way} against reverse: {distance(gradients[way], gradients['reverse']):.1e}")

# %% [markdown]
# ## When even that is too much
#
# - **Fewer tasks at a time.** `mj.over_tasks(learner, chunk=4)` computes four tasks side by side
#   and adds up the rest; the result is the same to rounding. `mj.tune` measures which chunk is
#   fastest.
# - **Fewer stored steps, or a shorter way back.** [`mj.bilevel`](../your-own-problem.md) takes a
#   budget of stored steps, computing others anew, and truncation, which leaves the first ones out.
# - **No loop at all.** [iMAML](../algorithms.md) takes the derivative at the minimum, by conjugate
#   gradients, and keeps nothing of the way there.
# - **More devices.** After `mj.use_all_cores()`, or with a mesh, tasks are dealt over
#   [devices](../devices.md).
