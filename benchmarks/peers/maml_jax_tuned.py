"""This project after `mj.tune`, which is not timed: what the measured number of tasks is worth.

Repeat: `python -m benchmarks --peers maml_jax_tuned`.
"""

import sys

import maml_jax as mj
from benchmarks.peers import Program
from benchmarks.peers.maml_jax import episodes_of, learner_of, mesh_of, meta_gradient_program
from benchmarks.workloads import Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of `maml_jax` with the tuned number of tasks together."""
    del device
    learner = learner_of(workload)
    mesh = mesh_of(workload, learner, inputs)
    meta, episodes = learner.init(inputs.weights), episodes_of(inputs)
    plan = mj.tune(learner, meta, episodes, mesh, again=True)
    print(f"{workload.name}: {plan}", file=sys.stderr)
    program = meta_gradient_program(learner, inputs, mesh, plan.chunk)
    return program._replace(note=str(plan))
