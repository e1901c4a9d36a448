"""This project as `maml-jax train` runs it: `mj.over_tasks` on a mesh of all devices, untuned.

The runner gives JAX a device for each core of a CPU, as the program does.

Repeat: `python -m benchmarks --peers maml_jax`.
"""

import jax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import maml_jax as mj
from benchmarks.peers import Program
from benchmarks.peers.jax_program import jax_program
from benchmarks.workloads import Conv4, Inputs, Workload
from maml_jax.types import Loss


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `maml_jax`; the runner has chosen the device through `JAX_PLATFORMS`."""
    del device
    network, rngs = workload.network, nnx.Rngs(0)
    if isinstance(network, Conv4):
        model: nnx.Module = mj.models.Conv4(
            network.ways,
            network.channels,
            network.filters,
            network.downsample,
            network.image_size,
            rngs=rngs,
        )
        loss: Loss = mj.losses.softmax_cross_entropy
    else:
        model = mj.models.MLP(1, network.hidden, 1, rngs=rngs)
        loss = mj.losses.mean_squared_error
    _, apply = mj.from_flax(model)
    learner = mj.maml(apply, workload.inner_lr, workload.inner_steps, loss=loss)
    mesh = mj.task_mesh(workload.tasks)
    update = mj.over_tasks(learner, mesh=mesh)

    @jax.jit
    def step(meta, episodes):
        (value, _), gradient = update(meta, episodes)
        return value, gradient

    weights, *episodes = jax.tree.map(jax.numpy.asarray, inputs)
    support_x, support_y, query_x, query_y = episodes
    episode = mj.Episode(mj.Batch(support_x, support_y), mj.Batch(query_x, query_y))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax_program(step, learner.init(weights), episode, place=everywhere)
