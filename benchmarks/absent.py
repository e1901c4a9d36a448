"""TPUs that are not there: XLA compiles for them on any machine that has libtpu."""

import argparse
import importlib.util
import os
from typing import Any, NamedTuple

import jax


class Chip(NamedTuple):
    """The published peaks of one chip."""

    flops: float
    """A second, bfloat16."""
    bytes_per_s: float
    memory_bytes: float
    host: str
    """What libtpu calls a machine with such chips."""


CHIPS = {
    "v5e": Chip(197e12, 819e9, 16e9, "v5litepod-4"),
    "v5p": Chip(459e12, 2765e9, 95 * 2**30, "v5p-8"),
    "v6e": Chip(918e12, 1640e9, 32e9, "v6e-4"),
}
"""https://cloud.google.com/tpu/docs, the pages "TPU v5e", "v5p" and "v6e"."""


def devices_of(parser: argparse.ArgumentParser, target: str) -> tuple[Chip, list[Any]]:
    """The kind and the devices of `--for`, like `tpu-v5e:2x2`; an error of the parser else.

    JAX itself runs on the CPU from then on.
    """
    platform, _, topology = target.partition("-")
    kind = topology.partition(":")[0]
    if platform != "tpu" or kind not in CHIPS:
        parser.error(f"--for was {target!r}; it must be like tpu-v5e:2x2, of {', '.join(CHIPS)}")
    if importlib.util.find_spec("libtpu") is None:
        parser.error("libtpu is not installed; pip install libtpu")
    # libtpu is to ask nobody about the machine that it is on.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", CHIPS[kind].host)
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies  # the documented way to compile ahead for other chips

    try:
        description = topologies.get_topology_desc(topology, platform="tpu")
    except jax.errors.JaxRuntimeError as error:
        parser.error(f"--for was {target!r}, of which libtpu says: {error}")
    return CHIPS[kind], list(description.devices)
