"""This project with the convolution's three operations in one form, for the peers that need it."""

from contextlib import ExitStack
from typing import Any

from benchmarks.peers import Prepare, Program, maml_jax
from benchmarks.workloads import Inputs, Workload
from maml_jax.kernels.convolution import in_forms

CHOSEN = ExitStack()
"""A worker has one peer, so its form stays chosen to the end of the process; tests close this."""


def in_form(*names: str) -> tuple[Prepare, Prepare]:
    """`prepare` and `prepare_training` of `benchmarks.peers.maml_jax`, in these forms."""

    def of(prepare: Any) -> Prepare:
        def prepared(workload: Workload, inputs: Inputs, device: str) -> Program:
            CHOSEN.enter_context(in_forms(*names))
            return prepare(workload, inputs, device)

        return prepared

    return of(maml_jax.prepare), of(maml_jax.prepare_training)
