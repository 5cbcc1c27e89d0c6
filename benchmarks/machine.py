"""The machine: what it is, and how busy it is with other things."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path


def description() -> dict[str, str]:
    """The processor, the system and the date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": str(os.cpu_count()),
        "system": platform.system() + " " + platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


def busy_seconds(cpus: Sequence[int]) -> float:
    """Seconds of work so far on these CPUs (user, nice, system, interrupts, stolen by the host)."""
    wanted, total = {f"cpu{c}" for c in cpus}, 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in wanted:
            total += sum(int(ticks[i]) for i in (0, 1, 2, 5, 6, 7))
    return total / os.sysconf("SC_CLK_TCK")


def wait_until_idle(cpus: Sequence[int], limit: float) -> None:
    """Waits, at most `limit` seconds, until the CPUs are less than 10 % busy."""
    start = time.time()
    while time.time() - start < limit:
        busy, at = busy_seconds(cpus), time.time()
        time.sleep(0.5)
        if busy_seconds(cpus) - busy < 0.1 * (time.time() - at) * len(cpus):
            return
