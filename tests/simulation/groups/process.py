"""A process with a loop and a home: it is killed between any two effects, in the middle of a sync, and paused."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.groups.home import Home
from tests.simulation.groups.loop import Killed, ProcessLoop
from tests.simulation.kernel import MS, World


class Process:
    """What all kinds of them share; each kind has its own way to start, and to die."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.home = Home()
        self.gone = False
        """It never comes back."""
        self.fuse: int | None = None
        """Effects until it is killed; None for never."""
        self.at_sync: Callable[[], None] | None = None
        """Strikes once, in the middle of the next sync."""
        self.slow_disk = 0.0
        self.paused = False
        self.lives = 0
        self._unburied: list[ProcessLoop] = []
        self._random = world.random(f"process {name}")

    @property
    def loop(self) -> ProcessLoop | None:
        """Of the present life; None while it is dead."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether the process exists, paused or not."""
        return self.loop is not None

    def kill(self) -> None:
        """SIGKILL, or the power goes: what is not durable is gone."""
        raise NotImplementedError

    def bury(self) -> None:
        """Unwind the tasks of lives that are over."""
        while self._unburied:
            self._unburied.pop().bury()

    def pause(self, duration_us: int) -> None:
        """SIGSTOP, and SIGCONT later."""
        if not self.paused and self.loop is not None:
            self.paused = self.loop.paused = True
            self.world.note(self.name, f"pauses for {duration_us // MS} ms")
            self.world.after(duration_us, self.resume)

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        if self.loop is not None:
            self.loop.resume()

    def boundary(self) -> None:
        """Between two effects, where a kill may strike."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                self.kill()
                raise Killed

    def _strike(self) -> None:
        """In the middle of a sync."""
        strike, self.at_sync = self.at_sync, None
        if strike is not None:
            strike()
            if not self.alive:
                raise Killed

    def _take_time(self) -> None:
        """A disk that is slow at times."""
        if self.slow_disk and self._random.random() < self.slow_disk and self.loop is not None:
            self.loop.busy_until_us += self._random.randint(10, 300) * MS
