"""The energy counter of a device, where it has one: NVML for CUDA, RAPL for the processor (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of the processor."""


class Energy:
    """The energy counter of ``device``: reads None where there is none or it may not be read.

    The calls of NVML follow its manual; they have not been run on a GPU yet.
    """

    def __init__(self, device: torch.device, rapl: Path = RAPL) -> None:
        self._cuda = device.type == "cuda"
        self._handle: ctypes.c_void_p | None = None
        self._counters: list[Path] = []
        if self._cuda:
            self._open(device)
        else:
            # The packages are the top level; their cores and caches below are parts of them.
            self._counters = sorted(
                path for path in rapl.glob("intel-rapl:*/energy_uj") if path.parent.name.count(":") == 1
            )
            self._before = dict.fromkeys(self._counters, 0)
            self._wraps = dict.fromkeys(self._counters, 0)

    def joules(self) -> float | None:
        """Joules used since an unknown moment in the past; None where that cannot be read."""
        if self._handle is not None:
            used = ctypes.c_ulonglong()
            failed = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(used))
            return None if failed else used.value / 1e3
        if not self._counters:
            return None
        try:
            return sum(self._read(path) for path in self._counters) / 1e6
        except (OSError, ValueError):
            self._counters = []  # only root may read it on many systems
            return None

    def share(self, ranks: int) -> int:
        """The factor from one reading to the energy of all ``ranks``: each has its own GPU, or all share the CPU."""
        return ranks if self._cuda else 1

    def _read(self, path: Path) -> int:
        """Microjoules; the counter restarts from zero at the end of its range."""
        now = int(path.read_text("ascii"))
        if now < self._before[path]:
            self._wraps[path] += 1
        self._before[path] = now
        return now + self._wraps[path] * int(path.with_name("max_energy_range_uj").read_text("ascii"))

    def _open(self, device: torch.device) -> None:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            handle = ctypes.c_void_p()
            # By its UUID, since CUDA_VISIBLE_DEVICES and NVML number devices differently.
            name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
            if library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)) == 0:
                self._library, self._handle = library, handle
