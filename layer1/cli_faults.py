"""How replicas of a ledger may fail, on the command line: the choice, what it costs, and how it is shown.

Source: docs/design/consensus.md, "Model"; decision 023.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import typer

from layer1.consensus.quorum import FaultModel

ReplicasOption = Annotated[
    int | None,
    typer.Option(
        "--replicas", min=1, max=100, help="How many: n > 3f, or n > 2f with omission faults. 4, or 3 with those."
    ),
]
FaultModelOption = Annotated[
    FaultModel,
    typer.Option(
        "--fault-model",
        help="byzantine: up to f replicas may do anything. omission: they may crash or be silent; that takes fewer, "
        "but one that lies or is broken into can fork the ledger.",
    ),
]
SMALLEST: Mapping[FaultModel, int] = MappingProxyType({"byzantine": 4, "omission": 3})
"""The fewest replicas of which one may fail."""


def tolerance(replicas: int, faults: int, model: str) -> str:
    """What a set of replicas withstands."""
    how = "crash or be silent, and none may lie" if model == "omission" else "fail in any way"
    return f"{replicas} replica{'s' * (replicas > 1)}, of which {faults or 'none'} may {how} ({model})"


def warning(model: str) -> str:
    """What to know before money is entrusted to it; empty if there is nothing."""
    if model != "omission":
        return ""
    return (
        "One replica that lies, is broken into, or runs on an old copy of its disk can fork this ledger: choose\n"
        "--fault-model byzantine unless all replicas are one operator's, on machines that only that one reaches.\n"
    )
