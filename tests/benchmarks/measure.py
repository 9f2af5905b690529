"""Contestants timed in turns, so that whatever else the machine does slows all of them alike."""

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from time import perf_counter
from typing import Any, Literal

# Gives the seconds that its turn took.
Contestant = Callable[[], float]
Target = tuple[Literal["≥", "≤"], float]
Row = tuple[str, str, str, str]

HEAD: Row = ("", "median (least–most)", "× the first of its group", "target")


def compare(contestants: Mapping[str, Contestant], targets: Mapping[str, Target], unit: str, turns: int) -> list[Row]:
    """Measure contestants in turns; ratios are to the first of them, in the same turn. The first turn warms up."""
    scale = {"µs": 1e6, "ms": 1e3}[unit]
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, contestant in contestants.items():
            seconds = contestant()
            if turn:
                taken[name].append(seconds)

    first, *others = contestants
    rows: list[Row] = [(first, _spread([scale * seconds for seconds in taken[first]], ".1f", unit), "", "")]
    for name in others:
        ratios = [seconds / base for seconds, base in zip(taken[name], taken[first], strict=True)]
        target = verdict(median(ratios), targets[name]) if name in targets else ""
        rows.append(
            (name, _spread([scale * seconds for seconds in taken[name]], ".1f", unit), _spread(ratios, ".2f"), target)
        )
    return rows


def each(cases: Iterable[Any], do: Callable[[Any], object]) -> Contestant:
    """Do something with every case; gives the mean time of one."""
    listed = list(cases)

    def contestant() -> float:
        began = perf_counter()
        for case in listed:
            do(case)
        return (perf_counter() - began) / len(listed)

    return contestant


def verdict(value: float, target: Target) -> str:
    """Say what was aimed at, and whether it was reached."""
    sign, bound = target
    reached = value >= bound if sign == "≥" else value <= bound
    return f"{sign} {bound:g}, {'met' if reached else 'missed'}"


def _spread(values: list[float], digits: str, unit: str = "") -> str:
    return f"{median(values):{digits}} ({min(values):{digits}}–{max(values):{digits}}) {unit}".rstrip()


def table(rows: Iterable[Row]) -> str:
    """Lay rows out in columns."""
    listed = [HEAD, *rows]
    widths = [max(len(row[column]) for row in listed) for column in range(len(HEAD))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed)
    return "\n".join(lines) + "\n"
