"""The machine that a measurement was made on: the header of every table."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

LIBRARIES: Final = ("torch", "numpy", "numba")
_BLAS_AND_OPENMP: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def header() -> dict[str, Any]:
    """Describe the machine as it is now, before anything is measured.

    Returns:
        JSON-ready: CPU model, cores, load average of the last minute, memory in GB, system, versions of what computes
        (None: not installed).
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


def describe(machine: dict[str, Any]) -> str:
    """Put a header in one line."""
    libraries = ", ".join(f"{library} {machine[library] or 'absent'}" for library in LIBRARIES)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"load {machine['load_average_before']} before; {machine['os']}, Python {machine['python']}, {libraries}"
    )


def version_of(library: str) -> str | None:
    """Tell a library's version without importing it; None if it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """Name the processor as the system does."""
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
    """Tell the most memory that this process has held, in units of 10^6 bytes.

    Linux's `ru_maxrss` will not do: it survives exec, so that a small child of a large parent reports its parent's
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
    """Make the environment of a process that computes on one thread of the CPU, whatever library it uses.

    Returns:
        The caller's environment, with the libraries' own limits set. It must be in place before they are imported.
    """
    return {**os.environ, **dict.fromkeys(_BLAS_AND_OPENMP, "1"), "CUDA_VISIBLE_DEVICES": ""}
