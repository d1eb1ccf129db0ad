"""A dictionary in many small ones, of which an image can be taken at once while the original goes on changing.

Safety: an image never changes.

Taking an image shares all shards; the first change of a shard after that copies it. So the pause is that of copying a
list of 4,096 references (20 us) instead of a million entries (40 ms, measured), and a block pays about 5 us for each
shard that it is the first to touch. The keys are hashes and public keys: who grinds them to fill one shard gains that
one copy takes long, once for each checkpoint.

Source: docs/design/consensus.md, "Execution and state".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, overload

V = TypeVar("V")
T = TypeVar("T")

SHARDS = 4_096
"""So many that copying one of a million entries takes microseconds; so few that empty ones cost little (256 KiB)."""

Image = tuple[Mapping[bytes, V], ...]
"""All shards as they were; for reading only."""


class Shards(Generic[V]):
    """Values by key of two bytes or more; a shorter key is never there."""

    __slots__ = ("_shards", "_shared")

    def __init__(self) -> None:
        self._shards: list[dict[bytes, V]] = [{} for _ in range(SHARDS)]
        self._shared = bytearray(SHARDS)
        """By shard, whether an image may hold it."""

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __contains__(self, key: bytes) -> bool:
        return len(key) > 1 and key in self._shards[key[0] << 4 | key[1] >> 4]

    def __getitem__(self, key: bytes) -> V:
        return self._shards[key[0] << 4 | key[1] >> 4][key]

    @overload
    def get(self, key: bytes) -> V | None: ...
    @overload
    def get(self, key: bytes, default: T) -> V | T: ...
    def get(self, key: bytes, default: T | None = None) -> V | T | None:
        """The value of `key`, or `default`."""
        return self._shards[key[0] << 4 | key[1] >> 4].get(key, default) if len(key) > 1 else default

    def __setitem__(self, key: bytes, value: V) -> None:
        self._own(key)[key] = value

    def remove(self, key: bytes) -> None:
        """Remove `key`, if it is there."""
        self._own(key).pop(key, None)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """All keys and values, in no order that means anything."""
        for shard in self._shards:
            yield from shard.items()

    def image(self) -> Image[V]:
        """Everything as it is now."""
        self._shared = bytearray(b"\1") * SHARDS
        return tuple(self._shards)

    def _own(self, key: bytes) -> dict[bytes, V]:
        """The shard of `key`, ours alone."""
        number = key[0] << 4 | key[1] >> 4
        if self._shared[number]:
            self._shared[number] = 0
            self._shards[number] = self._shards[number].copy()
        return self._shards[number]
