"""One measured figure beside its floor, and how a person or a machine reads a list of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Result:
    """A figure and what the same machine, disk and link allow at best."""

    name: str
    value: float
    unit: str
    floor: float
    """The bound in the same unit: a rate that cannot be exceeded, or a time that cannot be undercut."""
    why: str
    """How the floor is summed, in one sentence."""
    mark: float | None = None
    """What we set out to reach."""

    @property
    def less_is_better(self) -> bool:
        """Less is better."""
        return self.unit in {"ms", "us", "bytes"}

    @property
    def ratio(self) -> float:
        """How much of what is possible was reached, 0 to 1."""
        return self.floor / self.value if self.less_is_better else self.value / self.floor

    @property
    def reached(self) -> bool | None:
        """Whether the mark was reached; None without one."""
        if self.mark is None:
            return None
        return self.value <= self.mark if self.less_is_better else self.value >= self.mark


def to_json(results: Sequence[Result]) -> str:
    """``[{"name", "value", "unit", "floor", "ratio"}]``."""
    rows = [
        {
            "name": r.name,
            "value": round(r.value, 2),
            "unit": r.unit,
            "floor": round(r.floor, 2),
            "ratio": round(r.ratio, 3),
        }
        for r in results
    ]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode()


def show(results: Sequence[Result], console: Console) -> None:
    """A table for people, and the sentence behind each floor."""
    table = Table(title=machine(), title_justify="left", title_style="dim")
    for heading in ("what", "measured", "floor", "of floor", "mark"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for result in results:
        mark = "" if result.mark is None else f"{_number(result.mark)} {'reached' if result.reached else 'MISSED'}"
        table.add_row(
            result.name,
            f"{_number(result.value)} {result.unit}",
            f"{_number(result.floor)} {result.unit}",
            f"{result.ratio:.0%}",
            mark,
        )
    console.print(table)
    for result in results:
        console.print(f"[bold]{result.name}[/bold]: floor = {result.why}", soft_wrap=True)


def machine() -> str:
    """The machine in a line: processor, cores, Python."""
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
