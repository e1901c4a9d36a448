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
# # Is this PyTorch program right?
#
# A MAML step is easy to write and easy to get wrong: it trains all the same, only worse, and
# nothing says so. Here is one as people write it. It has a mistake; can you see it?

# %%
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

import maml_jax as mj
import parity

net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))


def maml_step(weights, tasks, *, create_graph=False):
    """The mean meta-gradient over tasks, by the names of `weights`."""
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}

    def loss(w, x, y):
        return F.cross_entropy(torch.func.functional_call(net, w, (x,)), y)

    total = 0
    for task in tasks:
        inner = loss(weights, task.support_x, task.support_y)
        slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=create_graph)
        fast = {
            name: weight - 0.3 * slope
            for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }
        total = total + loss(fast, task.query_x, task.query_y)
    slopes = torch.autograd.grad(total / len(tasks), list(weights.values()))
    return dict(zip(weights, slopes, strict=True))


# %% [markdown]
# ## Describe what it should compute
#
# The same network in JAX, some tasks, and how the weights adapt. Random numbers will do for data: a
# gradient is right or wrong on any. Use different numbers of tasks, support and query examples, so
# that no two mistakes look alike.

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=(4, 12, 6)), np.tile(np.arange(12) % 3, (4, 1))
episodes = mj.Episode(mj.Batch(x[:, :7], y[:, :7]), mj.Batch(x[:, 7:], y[:, 7:]))
params, apply = mj.from_flax(mj.models.MLP(6, (5,), 3, rngs=nnx.Rngs(0)))
problem = parity.Problem(apply=apply, params=params, episodes=episodes, inner_lr=0.3, inner_steps=1)
NAMES = {"0": "layers.0", "2": "head"}  # the layers of `net`, and their names in JAX

# %% [markdown]
# ## Ask
#
# `parity.check` gives the function weights and tasks in PyTorch, and compares what comes back with
# maml-jax in double precision. `names` says which layer is which. `network=net` has it compare the
# two networks first: a gradient can only be judged if both are the same function.

# %%
print(parity.check(maml_step, problem, network=net, names=NAMES))

# %% [markdown]
# Found: the gradient is wrong, and it is exactly what comes out where the inner graph is not
# created. Without `create_graph=True` the inner slopes are constants to PyTorch, and the program is
# first-order MAML under another name. Mend that one word, and ask again:

# %%
mended = partial(maml_step, create_graph=True)
print(parity.check(mended, problem, network=net, names=NAMES))

# %% [markdown]
# ## A harder one
#
# Two mistakes at once, of the kind that no curve shows: the sum over tasks where the mean belongs,
# and weight decay in the inner optimiser.


# %%
def another_step(weights, tasks):
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}

    def loss(w, x, y):
        return F.cross_entropy(torch.func.functional_call(net, w, (x,)), y)

    total = 0
    for task in tasks:
        inner = loss(weights, task.support_x, task.support_y)
        slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        fast = {
            name: weight - 0.3 * (slope + 5e-4 * weight)
            for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }
        total = total + loss(fast, task.query_x, task.query_y)
    slopes = torch.autograd.grad(total, list(weights.values()))
    return dict(zip(weights, slopes, strict=True))


print(parity.check(another_step, problem, network=net, names=NAMES))

# %% [markdown]
# The catalogue holds some fifty mistakes and all pairs of them; a gradient that fits none is called
# unknown, never forced into one. [Is my meta-gradient right?](../parity.md) lists them, and [five
# wrong programs](../wrong-programs.md) has five more to look at.
