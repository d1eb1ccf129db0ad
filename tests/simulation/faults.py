"""What goes wrong in a safety phase, one function per kind, each with a stream of randomness of its own.

Each schedules its mischief up to the end of the phase; `Scenario` undoes all of it when the network heals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from layer1.ledger.genesis import Genesis
from tests.simulation.clocks import Clock
from tests.simulation.kernel import MS, World
from tests.simulation.network import Network

DRIFT_PPM = 50_000
"""Far beyond any clock: a minute an hour, so that it matters within seconds."""


class Process(Protocol):
    """What can fail: a replica, or a wallet."""

    name: str
    genesis: Genesis
    clock: Clock
    fuse: int | None
    at_sync: Callable[[], None] | None
    slow_disk: float

    def start(self) -> None:
        """Run, if it does not."""

    def kill(self) -> None:
        """SIGKILL."""

    def pause(self, duration_us: int) -> None:
        """SIGSTOP for so long."""

    def resume(self) -> None:
        """SIGCONT."""


class Faults:
    """The hand that breaks things."""

    def __init__(self, world: World, network: Network, replicas: Sequence[Process], end_us: int) -> None:
        self.world, self.network, self.replicas, self.end_us = world, network, list(replicas), end_us
        self._mends: list[Callable[[], None]] = []

    def start(self, kinds: Sequence[str]) -> None:
        """Let these kinds of fault happen from now on."""
        for kind in kinds:
            random = self.world.random(f"faults {kind}")
            self.repeat(random, partial(KINDS[kind], self, random), random.randint(300, 3_000) * MS)

    def heal(self) -> None:
        """Undo all cuts, wake all sleepers, set all clocks, start all that was killed."""
        for mend in self._mends:
            mend()
        for replica in self.replicas:
            replica.fuse, replica.at_sync, replica.slow_disk = None, None, 0.0
            replica.resume()
            replica.clock.set(0)
            replica.start()

    def repeat(self, random: Random, strike: Callable[[], None], mean_us: int) -> None:
        """Strike now and then, until the phase ends."""

        def again() -> None:
            if self.world.now_us < self.end_us:
                strike()
                self.world.after(int(random.expovariate(1.0) * mean_us) + 1, again)

        self.world.after(int(random.expovariate(1.0) * mean_us), again)

    # -------------------------------------------------------------------------------------------------- kinds of fault

    def cut(self, senders: Sequence[str], receivers: Sequence[str], duration_us: int) -> None:
        """Stop messages from these to those for a while."""
        self.world.stats["cuts"] += 1
        self.world.note("network", f"cuts {','.join(senders)} > {','.join(receivers)} for {duration_us // MS} ms")
        mend = self.network.cut(senders, receivers)
        self._mends.append(mend)
        self.world.after(duration_us, mend)

    def split(self, random: Random) -> None:
        """Two sides that hear nothing of each other."""
        names = [replica.name for replica in self.replicas]
        random.shuffle(names)
        size = random.randint(1, len(names) - 1)
        duration_us = random.randint(50, 4_000) * MS
        self.cut(names[:size], names[size:], duration_us)
        self.cut(names[size:], names[:size], duration_us)

    def mute(self, random: Random) -> None:
        """One-way: some hear one node no more, or it does not hear them."""
        names = [replica.name for replica in self.replicas]
        one = names.pop(random.randrange(len(names)))
        others = random.sample(names, random.randint(1, len(names)))
        duration_us = random.randint(50, 4_000) * MS
        if random.random() < 0.5:
            self.cut([one], others, duration_us)
        else:
            self.cut(others, [one], duration_us)

    def break_link(self, random: Random) -> None:
        """A connection breaks, and what is on its way is lost."""
        random.choice(self.network.links()).break_off()

    def kill(self, random: Random) -> None:
        """SIGKILL at any time, and a restart after a while."""
        replica = random.choice(self.replicas)
        replica.kill()
        self.world.after(random.randint(1, 3_000) * MS, replica.start)

    def burn(self, random: Random) -> None:
        """SIGKILL between two effects of one turn, or in the middle of the next sync."""
        replica = random.choice(self.replicas)
        if random.random() < 0.5:
            replica.fuse = random.randint(1, 30)
        else:
            replica.at_sync = replica.kill
        self.world.after(random.randint(500, 3_000) * MS, replica.start)

    def blackout(self, random: Random) -> None:
        """The power goes everywhere at once."""
        if random.random() < 0.3:
            for replica in self.replicas:
                replica.kill()
                self.world.after(random.randint(1, 1_000) * MS, replica.start)

    def pause(self, random: Random) -> None:
        """A process stops for a while, often during a sync, and goes on as if nothing had been."""
        replica, duration_us = random.choice(self.replicas), random.randint(10, 4_000) * MS
        if random.random() < 0.5:
            replica.pause(duration_us)
        else:
            replica.at_sync = partial(replica.pause, duration_us)

    def skew(self, random: Random) -> None:
        """A wall clock jumps, within the drift bound or far beyond, and drifts from there."""
        replica = random.choice(self.replicas)
        bound = replica.genesis.parameters.drift_bound_ms
        reach = random.choice((bound // 2, 2 * bound, 100 * bound))
        replica.clock.set(random.randint(-reach, reach), random.randint(-DRIFT_PPM, DRIFT_PPM))
        self.world.stats["clock jumps"] += 1

    def slow_disk(self, random: Random) -> None:
        """Some syncs take long."""
        random.choice(self.replicas).slow_disk = random.choice((0.0, 0.05, 0.3))


Strike = Callable[[Faults, Random], None]

KINDS: dict[str, Strike] = {
    "split": Faults.split,
    "mute": Faults.mute,
    "break": Faults.break_link,
    "kill": Faults.kill,
    "burn": Faults.burn,
    "blackout": Faults.blackout,
    "pause": Faults.pause,
    "skew": Faults.skew,
    "slow disk": Faults.slow_disk,
}
