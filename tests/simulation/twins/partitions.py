"""Ways to cut a network into parts, and sequences of them up to the symmetry of twins.

A partition gives each instance the number of its part, in restricted growth: the first instance is in part 0, and each
next part is numbered when its first instance comes. So equal partitions are equal tuples.

Source: Bano et al., Twins (2021), section 4.2: partitions are those of a set, of Stirling numbers of the second kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from random import Random

Partition = tuple[int, ...]
"""By instance, its part."""


def normal(parts: Sequence[int]) -> Partition:
    """The same partition in restricted growth."""
    names: dict[int, int] = {}
    return tuple(names.setdefault(part, len(names)) for part in parts)


@cache
def partitions(instances: int, most_parts: int) -> tuple[Partition, ...]:
    """All partitions of so many instances into at most so many parts."""
    found: list[Partition] = [()]
    for _ in range(instances):
        found = [(*head, part) for head in found for part in range(min(most_parts, max(head, default=-1) + 2))]
    return tuple(found)


def swapped(partition: Partition, one: int, other: int) -> Partition:
    """The partition with two instances exchanged."""
    parts = list(partition)
    parts[one], parts[other] = parts[other], parts[one]
    return normal(parts)


@cache
def sequences(
    instances: int, most_parts: int, rounds: int, twins: tuple[int, int]
) -> tuple[tuple[Partition, ...], ...]:
    """All sequences of partitions, one of each two that differ only in which twin is which."""
    choices = partitions(instances, most_parts)
    other = {partition: swapped(partition, *twins) for partition in choices}
    return tuple(
        chosen
        for chosen in product(choices, repeat=rounds)
        if chosen <= tuple(other[partition] for partition in chosen)
    )


def random_partition(random: Random, instances: int) -> Partition:
    """Any partition; whole networks, two parts and one replica cut off are the most likely ones."""
    kind = random.random()
    if kind < 0.2:
        return (0,) * instances
    parts = 2 if kind < 0.7 else random.randint(2, instances)
    return normal([random.randrange(parts) for _ in range(instances)])
