"""Feeding targets: the same seed makes the same inputs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

SLOW_S = 2.0
"""Of CPU time, for one input of at most a few hundred kilobytes: a hundred times what the slowest takes."""


@dataclass
class Finding(Exception):
    """An input that did what none may do."""

    target: str
    seed: int
    data: bytes
    what: str
    SHOWN: ClassVar[int] = 200

    def __str__(self) -> str:
        shown = self.data[: self.SHOWN].hex() + ("..." if len(self.data) > self.SHOWN else "")
        return (
            f"{self.target}: {self.what}\n{len(self.data)} bytes: {shown}\n"
            f"again: python -m tests.fuzz --target {self.target!r} --seed {self.seed} --rounds 1"
        )


def inputs(target: Target, seed: int, count: int) -> list[bytes]:
    """Right ones, almost right ones, and noise."""
    rng = random.Random(f"{target.name} {seed}")
    others = [target.seeds(rng) for _ in range(8)]
    found = [*others, b"", rng.randbytes(rng.randrange(200))]
    while len(found) < count:
        found.append(mutated(rng.choice(others), others, rng))
    return found


def feed(target: Target, seed: int, given: Sequence[bytes]) -> tuple[int, int]:
    """Give a target the inputs of a seed; how many it took, and how many it refused.

    Raises:
        Finding: It did something else, or took too long.
    """
    taken = refused = 0
    for data in given:
        started = time.thread_time()
        try:
            target.read(data)
            taken += 1
        except target.errors:
            refused += 1
        except Exception as error:
            raise Finding(target.name, seed, data, f"{type(error).__name__}: {str(error)[:300]}") from error
        if (took_s := time.thread_time() - started) > SLOW_S:
            raise Finding(target.name, seed, data, f"took {took_s:.1f} s")
    return taken, refused
