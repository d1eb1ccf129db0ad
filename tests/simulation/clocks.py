"""The clocks of one machine: a monotonic one with an origin of its own, and a wall clock that drifts and jumps.

Source: docs/design/consensus.md, "Time".
"""

from __future__ import annotations

from layer1.consensus.events import Now
from tests.simulation.kernel import World

START_WALL_MS = 1_700_000_000_000
"""True wall time at the start of every world; the genesis block's."""
BOOT_MS = 10_000_000
"""Apart from each other, the monotonic clocks of the machines: nobody may compare two of them."""


class Clock:
    """What a replica reads when it looks at its clocks."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._boot_ms = BOOT_MS * (number + 1)
        self._offset_ms = 0
        self._since_us = 0
        self._drift_ppm = 0

    @property
    def skew_ms(self) -> int:
        """How far the wall clock is ahead of true time."""
        return self._offset_ms + (self._world.now_us - self._since_us) * self._drift_ppm // 1_000_000_000

    def now(self) -> Now:
        """Both clocks, as an event takes them."""
        world_ms = self._world.now_ms
        return Now(self._boot_ms + world_ms, START_WALL_MS + world_ms + self.skew_ms)

    def world_us(self, monotonic_ms: int) -> int:
        """When, in the world's time, the monotonic clock shows this."""
        return (monotonic_ms - self._boot_ms) * 1_000

    def set(self, skew_ms: int, drift_ppm: int = 0) -> None:
        """The wall clock jumps there and drifts on from there, so many microseconds per second."""
        self._offset_ms, self._drift_ppm, self._since_us = skew_ms, drift_ppm, self._world.now_us
