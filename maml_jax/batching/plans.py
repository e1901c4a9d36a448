"""How many tasks to compute together: what `tune` measured here, remembered between programs.

A plan belongs to a processor or accelerator, the versions of JAX, and a program. Which program it
is can be known from nothing but the learner and the shapes of its inputs, so that `over_tasks` can
look while it is traced: the learner's own program is traced and its operations are digested.

The file is `plans.json` in the folder that the environment variable MAML_JAX_CACHE names, or else
in the user's cache folder. It is replaced whole, never changed in place. If two programs remember
at once, one of their plans is lost, and measured again when it is next asked for.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maml_jax.cache import cache_folder, processor
from maml_jax.types import Episode, Meta, MetaLearner


class Plan(NamedTuple):
    """A measured choice of how many tasks to compute together on one device."""

    chunk: int
    """The choice, for `over_tasks(learner, chunk)`."""
    rule: int
    """What `over_tasks` takes where nothing was measured."""
    seconds: dict[int, float]
    """The median time of one step by chunk, for all that were measured."""
    file: Path | None = None
    """Where it is remembered; None where it could not be written."""

    def __str__(self) -> str:
        choice = f"{self.chunk} tasks together"
        if self.chunk in self.seconds:
            choice += f", {1e3 * self.seconds[self.chunk]:.3g} ms a step"
        if self.chunk == self.rule:
            others = ", ".join(
                f"{chunk}: {1e3 * time:.3g} ms"
                for chunk, time in sorted(self.seconds.items())
                if chunk != self.chunk
            )
            return f"{choice}; the rule's choice is the fastest measured ({others or 'alone'})"
        if self.rule not in self.seconds:
            return f"{choice}; the rule's {self.rule} did not fit in memory"
        return f"{choice}, against {1e3 * self.seconds[self.rule]:.3g} ms by the rule ({self.rule})"


CACHE = 2**18
"""Bytes of a core's cache that the rule fills with tasks."""


def rule(meta: Meta, episodes: Episode, devices: int = 1) -> int:
    """The choice without a measurement: few enough tasks for a CPU's cache, elsewhere all of them.

    On a CPU it counts a task's episode and its copy of the meta-parameters: one network of
    convolutions at a time, whose activations then stay in cache, and many a small network, whose
    operations would else be too short. An accelerator wants large batches.
    """
    tasks = jax.tree.leaves(episodes)[0].shape[0]
    share = -(-tasks // devices)
    if jax.default_backend() != "cpu":
        return share
    one = sum(_bytes(_abstract(leaf)) for leaf in jax.tree.leaves(meta))
    one += sum(_bytes(_abstract(leaf)) for leaf in jax.tree.leaves(episodes)) // tasks
    return min(share, max(1, CACHE // one))


def key(learner: MetaLearner, meta: Meta, episodes: Episode, devices: int) -> str:
    """What a plan is remembered by.

    Args:
      learner: what is done with one task.
      meta: its meta-parameters; of them and of `episodes` only shapes and types are used.
      episodes: one device's batch of episodes.
      devices: over how many devices such batches are dealt.
    """
    one = jax.tree.map(lambda leaf: _abstract(leaf, 1), episodes)
    program = jax.make_jaxpr(learner.value_and_grad)(jax.tree.map(_abstract, meta), one)
    digest = hashlib.sha256("\n".join(_operations(program.jaxpr)).encode())
    return f"{_place(episodes, devices)}, program {digest.hexdigest()[:16]}"


def recall(learner: MetaLearner, meta: Meta, episodes: Episode, devices: int) -> Plan | None:
    """The plan that `tune` remembered for this problem on this machine, if it did.

    None where several processes compute together: they must run one program, and each has a file.
    """
    if jax.process_count() > 1:
        return None
    file = cache_file()
    plans = {} if file is None else _read(file)
    place = _place(episodes, devices)
    if not any(name.startswith(place) for name in plans):
        return None  # to trace the learner for its key would be in vain
    plan = _from_json(plans.get(key(learner, meta, episodes, devices)))
    return None if plan is None else plan._replace(file=file)


def remember(name: str, plan: Plan) -> Path | None:
    """Write `plan` under the key `name`; the file, or None where it cannot be written."""
    file = cache_file()
    if file is None:
        return None
    entry = {"chunk": plan.chunk, "rule": plan.rule, "seconds": plan.seconds}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        plans = {**_read(file), name: entry}
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as unfinished:
            json.dump(plans, unfinished, indent=1)
        Path(unfinished.name).replace(file)
    except OSError:  # a read-only home must not stop a training run
        return None
    return file


def cache_file() -> Path | None:
    """The file of plans, there or not; None where the user has no home."""
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"


def _place(episodes: Episode, devices: int) -> str:
    """The readable half of a key: the machine, the versions, how many tasks each device has."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    tasks = jax.tree.leaves(episodes)[0].shape[0]
    kind = jax.local_devices()[0].device_kind
    return (
        f"{devices} × {kind}, {cores} cores of {processor()}, jax {jax.__version__}, "
        f"{tasks} tasks each"
    )


def _abstract(leaf: Any, drop: int = 0) -> jax.ShapeDtypeStruct:
    """The shape, less so many leading axes, and the type of an array."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.ShapeDtypeStruct(jnp.shape(leaf)[drop:], dtype)


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    """The size; keys of random numbers, which are few, count as one byte each."""
    return leaf.size * getattr(leaf.dtype, "itemsize", 1)


def _operations(jaxpr: Any) -> Iterator[str]:
    """Every operation with the length of its loop and what it returns, those within it after it.

    Of constants only integers are part of it, for they may bound a loop: a rate changes no time.
    Not the text of the program: that has addresses in it, which change with every run.
    """
    for equation in jaxpr.eqns:
        outputs = ",".join(str(variable.aval) for variable in equation.outvars)
        bounds = [int(x.val) for x in equation.invars if _is_integer(x)]
        yield f"{equation.primitive.name} {equation.params.get('length')} {bounds} {outputs}"
        for parameter in equation.params.values():
            for part in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from _operations(inner)


def _is_integer(variable: Any) -> bool:
    """Whether it is an integer that is known while tracing."""
    return hasattr(variable, "val") and jnp.issubdtype(jnp.result_type(variable.val), jnp.integer)


def _read(file: Path) -> dict[str, Any]:
    """The plans of the file; none where it is missing, unreadable or damaged."""
    try:
        plans = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return plans if isinstance(plans, dict) else {}


def _from_json(entry: Any) -> Plan | None:
    """The plan that `remember` wrote; None for anything else."""
    try:
        seconds = {int(chunk): float(time) for chunk, time in entry["seconds"].items()}
        plan = Plan(entry["chunk"], entry["rule"], seconds)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    counts = (plan.chunk, plan.rule)
    return plan if all(type(count) is int and count >= 1 for count in counts) else None
