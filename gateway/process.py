"""Metrics of this process, by the names that Prometheus' own clients use. Where there is no `/proc`, only some."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from gateway.metrics import Sample

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STARTED: Final = time.time()
_BUILD: Final = {"python": platform.python_version(), "version": version("webio-gateway")}


def process_samples() -> Iterator[Sample]:
    """What the process uses now."""
    yield Sample("gauge", "gateway_build_info", "1; the labels tell the version", _BUILD, 1)
    yield Sample("counter", "process_cpu_seconds_total", "CPU time used", {}, time.process_time())
    yield Sample("gauge", "process_start_time_seconds", "Start, in seconds since 1970", {}, _STARTED)
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        yield Sample("gauge", "process_resident_memory_bytes", "Resident memory", {}, pages * _PAGE)
        yield Sample(
            "gauge", "process_open_fds", "Open file descriptors", {}, sum(1 for _ in Path("/proc/self/fd").iterdir())
        )
