"""What a mutant is, and the hunt for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Break = Callable[[pytest.MonkeyPatch], None]
"""Puts the bug in; the patch takes it out again."""


@dataclass(frozen=True)
class Ground:
    """A kind of runs in which mutants are hunted."""

    name: str
    run: Callable[[int], str]
    """By seed, what was violated; empty if nothing was."""


@dataclass(frozen=True)
class Mutant:
    """A plausible bug."""

    name: str
    rule: str
    """Where the design says otherwise."""
    breaks: Break
    ground: Ground
    within: int
    """It is found within so many seeds."""

    @property
    def what(self) -> str:
        """What is broken, in words."""
        return " ".join((self.breaks.__doc__ or "").split())


@dataclass(frozen=True)
class Found:
    """A run that found a mutant."""

    seed: int
    error: str


MUTANTS: list[Mutant] = []


def mutant(rule: str, ground: Ground, within: int) -> Callable[[Break], Break]:
    """Register a mutant, which is named for its function."""

    def register(breaks: Break) -> Break:
        MUTANTS.append(Mutant(breaks.__name__, rule, breaks, ground, within))
        return breaks

    return register


def hunt(wanted: Mutant, most: int | None = None) -> Found | None:
    """Try seeds from 0 on until one finds the mutant, `within` or so many at most."""
    with pytest.MonkeyPatch.context() as patch:
        wanted.breaks(patch)
        for seed in range(most or wanted.within):
            if error := wanted.ground.run(seed):
                return Found(seed, error)
    return None
