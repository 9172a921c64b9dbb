"""The whole corpus of hostile candidates."""

from tests.hacks import correctness, invented, machine_code, not_a_kernel, placed, process, timing
from tests.hacks.corpus import Hack

HACKS: list[Hack] = [
    *timing.HACKS,
    *correctness.HACKS,
    *not_a_kernel.HACKS,
    *process.HACKS,
    *invented.HACKS,
    *placed.HACKS,
    *machine_code.HACKS,
]
FAMILIES = [
    *(f"T{number}" for number in range(1, 15)),
    *(f"C{number}" for number in range(1, 14)),
    *(f"N{number}" for number in range(1, 6)),
]
"""The 32 families that are documented in the field."""
