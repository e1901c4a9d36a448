"""How much of a data set is kept on the device."""

import os

import jax

SHARE = 0.25  # of the device's memory; the rest is for the model, its tasks and other programs
_GIB = 2**30


def fits(size: int, limit: int | None) -> bool:
    """Whether `size` bytes go to the device: at most `limit`, or else a quarter of its memory."""
    return size <= (SHARE * _device_bytes() if limit is None else limit)


def _device_bytes() -> int:
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    if device.platform == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 * _GIB
