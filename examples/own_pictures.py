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
# # Your own pictures
#
# A folder for each class, a few pictures in each, and a network that learns *new* classes from a
# handful of examples. The pictures here are drawn by the next cell, so that the notebook runs
# anywhere; put the path of your own folder into `mj.data.load` instead.

# %%
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from PIL import Image, ImageDraw

import maml_jax as mj

UPDATES = 300
SIZE = 28

mj.use_all_cores()


def photo(kind, rng):
    """A thing of some corners, depth and colour, anywhere before any ground."""
    width, height = (int(side) for side in rng.integers(120, 300, 2))
    picture = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    thing = np.random.default_rng([kind, 7])  # what all pictures of a class share
    corners = int(thing.integers(3, 8))
    depth, colour = thing.uniform(0.3, 0.9), thing.integers(0, 256, 3) + rng.integers(-15, 16, 3)
    angles = rng.uniform(-0.5, 0.5) + np.pi * np.arange(2 * corners) / corners
    radii = (
        min(width, height) * rng.uniform(0.3, 0.45) * np.where(np.arange(2 * corners) % 2, depth, 1)
    )
    x = width * rng.uniform(0.45, 0.55) + radii * np.cos(angles)
    y = height * rng.uniform(0.45, 0.55) + radii * np.sin(angles)
    ImageDraw.Draw(picture).polygon(
        [*zip(x.tolist(), y.tolist(), strict=True)], fill=tuple(colour.clip(0, 255).tolist())
    )
    return picture


rng = np.random.default_rng(0)
for kind in range(25):
    folder = Path("photos", f"thing-{kind:02}")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(20):
        photo(kind, rng).save(folder / f"{number}.jpg")

# %% [markdown]
# ## Look first
#
# Classes, not pictures, are split into `train`, `val` and `test`: the network is judged on kinds of
# things that it never saw.

# %%
data = mj.data.load("photos", image_size=SIZE, ways=5)
data

# %%
classes = sorted(Path("photos").iterdir())
figure, axes = plt.subplots(3, 8, figsize=(10, 4), layout="constrained")
for row, folder in zip(axes, classes, strict=False):
    for each, file in zip(row, sorted(folder.iterdir()), strict=False):
        each.imshow(Image.open(file))
        each.axis("off")
    row[0].set_title(folder.name, loc="left")
plt.show()

# %% [markdown]
# ## Train
#
# Each task shows one picture of each of five kinds, and asks about five others of each.

# %%
train = data.tasks("train", ways=5, shots=1, queries=5)
test = data.tasks("test", ways=5, shots=1, queries=10)
model = mj.models.Conv4(ways=5, in_channels=3, image_size=SIZE, filters=32, rngs=nnx.Rngs(0))
params, apply = mj.from_flax(model)
learner = mj.maml(apply, inner_lr=0.4, inner_steps=1)
meta, log = mj.train(
    learner,
    params,
    train,
    updates=UPDATES,
    tasks_per_update=16,
    optimizer=optax.adam(2e-3),
    progress=False,
)
print("before:", mj.evaluate(learner, learner.init(params), test, count=100))
print("after: ", mj.evaluate(learner, meta, test, count=100))
mj.plot_curve(log)

# %% [markdown]
# ## One task, before and after the inner steps
#
# A green frame is right, a red one wrong.

# %%
task = jax.tree.map(lambda leaf: leaf[0], test.batch(jax.random.key(3), 1))
mj.plot_episode(learner, meta, task, steps=1)

# %% [markdown]
# ## Labels for files
#
# `mj.FewShotClassifier` has scikit-learn's `fit`, `predict` and `predict_proba`. It takes paths,
# Pillow images or arrays, of any size. Five kinds that are in no folder, two labelled pictures of
# each:

# %%
rng = np.random.default_rng(1)
kinds = range(100, 105)
labelled = [photo(kind, rng) for kind in kinds for _ in range(2)]
labels = [f"new thing {kind - 99}" for kind in kinds for _ in range(2)]
others = [photo(kind, rng) for kind in kinds for _ in range(20)]
truth = [f"new thing {kind - 99}" for kind in kinds for _ in range(20)]

classifier = mj.FewShotClassifier.from_learner(learner, meta, input_shape=(SIZE, SIZE, 3))
classifier.fit(labelled, labels)
print(f"{classifier.score(others, truth):.0%} of {len(others)} pictures are right")

# %%
shown = others[::8]
probabilities = classifier.predict_proba(shown)
figure, axes = plt.subplots(2, 6, figsize=(10, 4), layout="constrained")
for each, picture, row, label in zip(axes.flat, shown, probabilities, truth[::8], strict=False):
    guess = classifier.classes_[row.argmax()]
    each.imshow(picture)
    each.axis("off")
    colour = "#1a7f4b" if guess == label else "#c0392b"
    each.set_title(f"{guess}\n{row.max():.0%}", color=colour, fontsize=9)
plt.show()

# %% [markdown]
# The same from a shell, with a run that can be stopped, resumed and looked at:
#
# ```sh
# maml-jax train --data photos/ --image-size 84 --out runs/photos
# maml-jax predict runs/photos --support labelled/ --images new/ --html page.html
# ```
