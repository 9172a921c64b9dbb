"""Numbers as text: shares, ratios, p-values and intervals as the report prints them."""

import re

MISSING = "–"


def share(value: float | None) -> str:
    """0.533 as `53.3 %`."""
    return MISSING if value is None else f"{value * 100:.1f}\u00a0%".replace("-", "−")


def points(value: float | None) -> str:
    """A difference of shares, 0.3 as `+30.0`, in percentage points."""
    if value is None:
        return MISSING
    text = f"{value * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits, thousands with thin spaces."""
    if value is None:
        return MISSING
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:.{digits}g}"
    return ("0" if abs(value) < 1e-9 else text).replace("-", "−")


def ratio(value: float | None) -> str:
    """A speedup, 1.2345 as `1.23×`."""
    if value is None:
        return MISSING
    decimals = 2 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}×".replace(",", "\u202f")


def rho(value: float | None) -> str:
    """A correlation, three decimals."""
    return MISSING if value is None else f"{0.0 if abs(value) < 5e-4 else value:.3f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


FORMATS = {
    "share": share, "share of seeds": share, "points": points, "ratio": ratio, "p": p_value, "count": number,
    "tokens": number, "rho": rho, "log ratio": rho,
}  # fmt: skip


def in_unit(value: float | None, unit: str) -> str:
    """A value as its unit is printed."""
    return FORMATS.get(unit, number)(value)


def interval(low: float | None, high: float | None, unit: str) -> str:
    """`[20.0, 53.3]`, without the unit's sign; empty without an interval, `[exact]` where both ends are one number."""
    if low is None or high is None:
        return ""
    if low == high:
        return "[exact]"
    ends = [re.sub(r"\s*[%×]$", "", in_unit(end, unit)) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


FEW = 10
"""Tasks below which an interval is marked: it holds what it says less exactly (docs/statistics.md)."""
FEW_MARK = "†"
FEW_NOTE = (
    f"{FEW_MARK} Fewer than ten tasks: of so few, nominal 95 % intervals held the truth in 92 to 100 of 100 planted studies. Where "
    "each task is a yes or a no, few outcomes are possible, and their coverage moves in steps of several points."
)


def with_interval(
    value: float | None, low: float | None, high: float | None, unit: str, tasks: int | None = None
) -> str:
    """Value and interval in one cell; marked if it is over fewer than `FEW` tasks."""
    ends = interval(low, high, unit)
    return f"{in_unit(value, unit)} {ends}".strip() + (
        FEW_MARK if ends and tasks is not None and 0 < tasks < FEW else ""
    )


def natural(name: str) -> tuple:
    """Sort key that puts L1/4 before L1/12."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
