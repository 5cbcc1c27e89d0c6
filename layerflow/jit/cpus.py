"""How many threads compiled steps may use."""

from __future__ import annotations

import functools
import os

from layerflow import config


@functools.cache
def usable_cpus() -> int:
    """Processors this process may run on, as found at first use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Threads that compiled steps may use: as set, but never more than the process may run on."""
    usable = usable_cpus()
    return max(1, min(config.num_threads() or usable, usable))
