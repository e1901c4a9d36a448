"""This project as `maml-jax train` runs it: `mj.over_tasks` on the mesh for so many tasks.

The runner gives JAX a device for each core of a CPU, as `mj.use_all_cores()` does. How many tasks
are computed together is the default.
Repeat: `python -m benchmarks --peers maml_jax`.
"""

import jax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import maml_jax as mj
from benchmarks.peers import Program
from benchmarks.peers.jax_program import jax_program
from benchmarks.peers.maml_jax_training import training_program
from benchmarks.workloads import MLP, Conv4, Inputs, Network, Workload, of_images
from maml_jax.types import Loss, MetaLearner


def prepare(workload: Workload, inputs: Inputs, device: str, precision: str = "default") -> Program:
    """The program of `maml_jax`; the runner has chosen the device through `JAX_PLATFORMS`."""
    del device
    return meta_gradient_program(learner_of(workload, precision), workload, inputs)


def prepare_training(
    workload: Workload, inputs: Inputs, device: str, precision: str = "default"
) -> Program:
    """Training by this project's own compiled program, sampling included."""
    del device
    return training_program(workload, learner_of(workload, precision), inputs)


def learner_of(workload: Workload, precision: str = "default") -> MetaLearner:
    """The learner for the workload's network; its weights come from the inputs."""
    loss: Loss = mj.losses.softmax_cross_entropy
    if isinstance(workload.network, MLP):
        loss = mj.losses.mean_squared_error
    _, apply = mj.from_flax(model_of(workload.network))
    apply = mj.in_precision(apply, precision)
    return mj.maml(apply, workload.inner_lr, workload.inner_steps, loss=loss)


def model_of(network: Network) -> nnx.Module:
    """The network as this project has it, with weights of its own."""
    rngs = nnx.Rngs(0)
    if isinstance(network, MLP):
        return mj.models.MLP(1, network.hidden, 1, rngs=rngs)
    network = of_images(network)
    if isinstance(network, Conv4):
        return mj.models.Conv4(
            network.ways,
            network.channels,
            network.filters,
            network.downsample,
            network.image_size,
            rngs=rngs,
        )
    return mj.models.ResNet12(
        network.ways, network.channels, network.filters, network.image_size, rngs=rngs
    )


def episodes_of(inputs: Inputs) -> mj.Episode:
    """The inputs' batch of episodes on the device."""
    _, *arrays = inputs
    support_x, support_y, query_x, query_y = map(jax.numpy.asarray, arrays)
    return mj.Episode(mj.Batch(support_x, support_y), mj.Batch(query_x, query_y))


def meta_gradient_program(
    learner: MetaLearner, workload: Workload, inputs: Inputs, chunk: int | None = None
) -> Program:
    """One meta-gradient, `chunk` tasks of each device together; None: the default number."""
    mesh = mj.task_mesh(workload.tasks)
    update = mj.over_tasks(learner, chunk, mesh)

    @jax.jit
    def step(meta, episodes):
        (value, _), gradient = update(meta, episodes)
        return value, gradient

    meta = learner.init(jax.tree.map(jax.numpy.asarray, inputs.weights))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax_program(step, meta, episodes_of(inputs), sharding=everywhere)
