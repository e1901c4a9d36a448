"""This project with the chunk that `mj.tune` measured as fastest; the measuring is not timed.

Repeat: `python -m benchmarks --peers maml_jax_tuned`.
"""

import maml_jax as mj
from benchmarks.peers import Program
from benchmarks.peers.maml_jax import episodes_of, learner_of, meta_gradient_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `maml_jax` with the tuned number of tasks together."""
    del device
    learner, mesh = learner_of(workload), mj.task_mesh(workload.tasks)
    plan = mj.tune(learner, learner.init(inputs.weights), episodes_of(inputs), mesh)
    program = meta_gradient_program(learner, workload, inputs, plan.chunk)
    return program._replace(note=str(plan))
