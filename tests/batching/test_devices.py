"""The cores of a CPU as devices: what a user's program does, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from problems import all_but_slow

TESTS = Path(__file__).parents[1]
SETUP = """
import logging, sys
sys.path.insert(0, {tests!r})
import maml_jax as mj
from maml_jax.batching import devices
devices.cores = lambda: 2
"""
STEP = """
import jax
from problems import classification, perceptron
params, apply = perceptron()
step = jax.jit(mj.over_tasks(mj.maml(apply, 0.1)))
for _ in range(2):
    (loss, _), grads = step(params, classification(tasks=5))
"""


def run(code):
    """The output and the log of a program on two cores."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP.format(tests=str(TESTS)) + code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


def test_tasks_are_dealt_over_all_cores_without_a_mesh():
    out, log = run(
        "print(mj.use_all_cores(), mj.use_all_cores())"
        + STEP
        + "print(len(loss.devices()), step.lower(params, classification(tasks=5)).as_text()"
        ".count('all_reduce') > 0)"
    )
    assert out.split() == ["2", "2", "2", "True"]
    assert log == ""


def test_a_program_that_does_not_is_told_once():
    out, log = run(STEP + "print(len(loss.devices()))")
    assert out == "1"
    assert log == (
        "JAX sees this CPU of 2 cores as one device; call mj.use_all_cores() first in the "
        "program to train on all of them"
    )


@pytest.mark.slow  # each test here starts a program
def test_within_a_shard_map_tasks_stay_where_they_are():
    out, _ = run(
        "mj.use_all_cores()"
        + STEP
        + """
from jax.sharding import PartitionSpec as P
mesh = mj.task_mesh(4)
tasks = classification(tasks=4)
inner = mj.over_tasks(mj.maml(apply, 0.1))
def mean(params, tasks):
    return jax.tree.map(lambda leaf: jax.lax.pmean(leaf, "tasks"), inner(params, tasks))
mapped = jax.shard_map(mean, mesh=mesh, in_specs=(P(), P("tasks")), out_specs=P(), check_vma=False)
(a, _), _ = jax.jit(mapped)(params, tasks)
(b, _), _ = jax.jit(inner)(params, tasks)
print(abs(float(a) - float(b)) < 1e-6)
"""
    )
    assert out == "True"


@pytest.mark.parametrize(
    "start", all_but_slow(["jax.numpy.ones(3)", "jax.devices()"], "jax.devices()")
)
def test_too_late_is_refused(start):
    out, _ = run(
        f"import jax; {start}\ntry: mj.use_all_cores()\nexcept mj.InputError as error: print(error)"
    )
    assert out == (
        "`use_all_cores` was called after JAX had started with 1 CPU devices; call it first in "
        "the program."
    )
