"""What a GPU's clocks stood at: asked of NVIDIA's management library by the judge, in whose process no candidate is.

Knows NVML by its well-kept Python package, if that is installed; what it cannot say it says so, and never makes up.
"""

import contextlib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HARMLESS = 0x1 | 0x2 | 0x10 | 0x100
"""Reasons for a clock below the highest that are no throttling: idle, a clock that was set, synchronised boost, display."""
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""NVML's bits for throttling, in words."""


@dataclass(frozen=True)
class Reading:
    """The device at one moment."""

    sm_mhz: int | None
    memory_mhz: int | None
    throttling: str
    """Why its clocks are held down, in words; empty if they are not."""


NOTHING = Reading(None, None, "")


class GpuState:
    """One device's clocks."""

    def __init__(self, uuid: str) -> None:
        """`uuid` as the driver prints it, with or without `GPU-`. Without NVML `problem` says why, and nothing is read."""
        self.problem = ""
        self._nvml: Any = None
        self._handle: Any = None
        try:
            self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            self._handle = self._nvml.nvmlDeviceGetHandleByUUID(name)
        except ImportError as error:
            self.problem = f"{error} (pip install 'vegflow[cuda]')"
        except (
            Exception
        ) as error:  # NVMLError: its library is missing, does not fit the driver, or knows no such device
            self.problem = f"{type(error).__name__}: {error}"

    def read(self) -> Reading:
        """The present clocks, MHz."""
        if self._handle is None:
            return NOTHING
        nvml = self._nvml
        return Reading(self._clock(nvml.NVML_CLOCK_SM), self._clock(nvml.NVML_CLOCK_MEM), self._throttling())

    def _clock(self, kind: int) -> int | None:
        with contextlib.suppress(self._nvml.NVMLError):
            return int(self._nvml.nvmlDeviceGetClockInfo(self._handle, kind))
        return None

    def _throttling(self) -> str:
        with contextlib.suppress(self._nvml.NVMLError):
            return reasons(int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)))
        return ""


def reasons(bits: int) -> str:
    """NVML's bit mask in words; bits that are not known are given as such."""
    bits &= ~HARMLESS
    words = [word for bit, word in REASONS.items() if bits & bit]
    rest = bits & ~sum(REASONS)
    return ", ".join([*words, *([f"unknown reason {rest:#x}"] if rest else [])])


def together(readings: Iterable[Reading]) -> tuple[list[int] | None, list[int] | None, str | None]:
    """SM clocks, memory clocks (MHz, in order) and throttling of all readings; None where nothing was read."""
    taken = [reading for reading in readings if reading != NOTHING]
    sm = [reading.sm_mhz for reading in taken if reading.sm_mhz is not None]
    memory = [reading.memory_mhz for reading in taken if reading.memory_mhz is not None]
    words = [word for reading in taken for word in reading.throttling.split(", ") if word]
    return sm or None, memory or None, ", ".join(dict.fromkeys(words)) if taken else None
