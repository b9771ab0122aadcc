"""The machine that a measurement is made on, as every table states it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

LIBRARIES: Final = ("torch", "numpy", "numba")
_THREAD_LIMITS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def header() -> dict[str, Any]:
    """Describe the machine, before anything is measured.

    Returns:
        JSON-ready: CPU model, cores, load average of the last minute, memory in GB, system, and versions of Python and
        `LIBRARIES` (None if not installed).
    """
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        **{library: version_of(library) for library in LIBRARIES},
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Return a header as one line."""
    libraries = ", ".join(f"{library} {machine[library] or 'not installed'}" for library in LIBRARIES)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"load {machine['load_average_before']} before; {machine['os']}, Python {machine['python']}, {libraries}"
    )


def version_of(library: str) -> str | None:
    """Return a library's version without importing it; None if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Return the processor's name from the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process, in units of 10^6 bytes.

    Linux's `ru_maxrss` cannot be used: it survives exec, so that a small child of a large parent reports its parent's
    figure (measured: 826 MB for a process of 9). `VmHWM` belongs to the address space, which exec replaces.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def one_thread() -> dict[str, str]:
    """Return the environment of a process that computes on one thread of the CPU, whatever library it uses.

    Returns:
        This process's environment, with the libraries' own limits set. Libraries read it when they are imported.
    """
    return {**os.environ, **dict.fromkeys(_THREAD_LIMITS, "1"), "CUDA_VISIBLE_DEVICES": ""}
