"""Training by this project's own loop: sampling, meta-gradient and Adam, all in one dispatch.

Claim: what is timed is `maml_jax.training.updates.make_updates`, the program of several updates per
jitted call that `maml-jax train` runs; only logs and checkpoints are left out.
Repeat: `python -m benchmarks --only training --peers maml_jax`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.peers import CHECKED_EPS, CHECKED_UPDATES, META_LR, Program
from benchmarks.peers.jax_program import peak_bytes, result
from benchmarks.workloads import MLP, Inputs, Workload, make_images, of_images
from maml_jax import task_mesh
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.sets.sinusoid import sample_sinusoid
from maml_jax.data.sources import TaskSource
from maml_jax.training.updates import Block, initial_state, make_updates
from maml_jax.types import Batch, Episode, MetaLearner


def training_program(workload: Workload, learner: MetaLearner, inputs: Inputs) -> Program:
    """`workload.updates` updates of training in a call, the state carried from call to call.

    What is checked is the sum of the weights' changes over `CHECKED_UPDATES` updates, with the
    first of the inputs' episodes for every task and Adam's `eps` of `CHECKED_EPS`.
    """
    mesh = task_mesh(workload.tasks)
    everywhere = NamedSharding(mesh, PartitionSpec())

    def program(source: TaskSource, eps: float) -> tuple[Any, Any]:
        optimizer = optax.adam(META_LR, eps=eps)
        run = make_updates(
            learner,
            source,
            optimizer,
            tasks_per_update=workload.tasks,
            updates=10**6,
            mesh=mesh,
        )
        weights = jax.tree.map(jnp.array, inputs.weights)  # new ones: an update donates its state
        state = initial_state(learner, weights, optimizer, seed=0)
        return run, jax.device_put(state, everywhere)

    source = _source(workload)
    store = jax.device_put(source.store, everywhere)
    run, state = program(source, eps=1e-8)

    def step() -> Any:
        nonlocal state
        state, totals, _ = run(state, None, Block(store), workload.updates)
        return jax.block_until_ready(totals)

    def check() -> Any:
        _, *arrays = (jax.tree.map(jnp.asarray, part) for part in inputs)
        support_x, support_y, query_x, query_y = (array[0] for array in arrays)
        episode = Episode(Batch(support_x, support_y), Batch(query_x, query_y))
        alone = TaskSource(episode, lambda store, key: store)
        block = Block(jax.device_put(episode, everywhere))
        checked, fresh = program(alone, CHECKED_EPS[str(inputs.query_x.dtype)])
        last, totals, _ = checked(fresh, None, block, CHECKED_UPDATES)
        return totals.means()["loss"], jax.tree.map(jnp.subtract, last.meta, inputs.weights)

    return Program(step, result, peak_bytes, check)


def _source(workload: Workload) -> TaskSource:
    """The tasks that training draws: of as many classes as Omniglot trains on, or sine curves."""
    network = workload.network
    if isinstance(network, MLP):
        return TaskSource(
            None, lambda _, key: sample_sinusoid(key, workload.shots, workload.queries)
        )
    network = of_images(network)
    images = make_images(network, seed=0)
    classes = len(images)
    data = LabelledSet(
        name="random",
        examples=images.reshape(-1, *images.shape[2:]),
        counts=np.full(classes, images.shape[1], np.int32),
        class_names=tuple(map(str, range(classes))),
        splits={"train": np.arange(classes)},
        rotate=True,
    )
    return data.tasks("train", ways=network.ways, shots=workload.shots, queries=workload.queries)
