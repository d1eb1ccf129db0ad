"""Where mutants are hunted: whole replicas, consensus cores in chaos, and twins, by seeds from 0 on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

from msgspec import structs

from layer1.codec import encode
from layer1.errors import LocalError
from layer1.replica.messages import Blocks, Chunk, ChunkRequest, FinalBlock, SnapshotOffer
from tests.layer1.consensus.network import SafetyError
from tests.layer1.consensus.scenarios import LivenessError, chaos
from tests.simulation.byzantine.role import Role, read
from tests.simulation.flood.scenario import Flood
from tests.simulation.flood.scenario import Options as Flooding
from tests.simulation.kernel import MS, Action
from tests.simulation.mutants.registry import Ground
from tests.simulation.network import AWFUL, CALM, PROFILES
from tests.simulation.scenario import Options, Scenario
from tests.simulation.twins.scenario import at_random, simulate, small, small_count

WIDE = next(profile for profile in PROFILES if profile.name == "wide")
"""Asking for one block after the other takes long there, so that who is behind asks for many at once."""
LONG_MS = 150_000
"""Longer than two of the ledger clock's greatest steps."""


def whole(name: str = "whole replicas", **changes: Any) -> Ground:
    """Networks of whole replicas as `tests.simulation --seeds` runs them, some options set for all seeds."""

    def run(seed: int) -> str:
        return Scenario(replace(Options.from_seed(seed), **changes)).run().error

    return Ground(name, run)


def consensus(term_views: int, *, traitor: bool) -> Ground:
    """Consensus cores with crashes between any two effects (`tests.layer1.consensus.scenarios`)."""

    def run(seed: int) -> str:
        try:
            chaos(seed, term_views, traitor=traitor)
        except (SafetyError, LivenessError, LocalError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    return Ground(f"consensus cores, L = {term_views}" + (", one lies" if traitor else ""), run)


def _twins(seed: int) -> str:
    """Small and larger scenarios in turn; of the small ones any, as `seed` has it."""
    if seed % 2:
        return simulate(at_random(seed)).error
    return simulate(small(Random(seed).randrange(small_count()))).error


def _after_a_long_night(seed: int) -> str:
    """Everybody is down for longer than the ledger clock may step."""

    class Night(Scenario):
        def safety_phase(self) -> None:
            super().safety_phase()
            for replica in self.replicas:
                replica.kill()
            self.world.run(self.world.now_us + LONG_MS * MS)

    return Night(replace(Options.from_seed(seed), duration_ms=2_000)).run().error


class Forger(Role):
    """Answers whoever is behind with real blocks, and signatures of its own making."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, Blocks):
            return (encode(Blocks(tuple(map(self._forge, message.blocks)))),)
        return (data,)

    @staticmethod
    def _forge(block: FinalBlock) -> FinalBlock:
        if block.finalization is None:
            return block
        signatures = tuple((replica, bytes(64)) for replica, _ in block.finalization.signatures)
        return structs.replace(block, finalization=structs.replace(block.finalization, signatures=signatures))


def _with_a_late_one(seed: int) -> str:
    """One replica is down while the others make blocks, and one of those whom it then asks is a forger."""

    class Late(Scenario):
        def safety_phase(self) -> None:
            late = self.replicas[-1]
            self.replicas[0].corrupt(Forger)
            self.world.schedule(0, late.kill)
            self.world.schedule(self.options.duration_ms * MS * 2 // 3, late.start)
            super().safety_phase()

    changes = _four(roles=((0, "silent"),), profile=WIDE, duration_ms=4_500, pause_ms=150)
    return Late(replace(Options.from_seed(seed), **changes)).run().error


def _far_behind(seed: int) -> str:
    """One replica is away for longer than its peers remember blocks."""
    options = replace(Options.from_seed(seed), **_four(faults=("burn",) if seed % 2 else ()))
    return Scenario(options.with_a_late_one(Random(seed))).run().error


def flooded(name: str, **changes: Any) -> Ground:
    """A flood of disputes over pools that are full of transfers (docs/flood.md), at a 50th of the numbers."""

    def run(seed: int) -> str:
        return Flood(Flooding(scale=50, seed=seed, **changes)).run().verdict

    return Ground(name, run)


def _four(**changes: Any) -> dict[str, Any]:
    """Four replicas that nothing happens to but what is named."""
    return {"replicas": 4, "faults": (), "roles": (), "lost": (), "gone": (), "late": None, "changes": 0, **changes}


def _omission(seed: int) -> str:
    """Whole replicas among which nobody lies, as `tests.simulation --kind omission` runs them."""
    return Scenario(Options.with_omission(seed)).run().error


def _on_the_word_of_one(seed: int) -> str:
    """Of three replicas 2 hears of nothing; then 0 loses its disk, and can ask nobody but 2."""

    class Forgotten(Scenario):
        def safety_phase(self) -> None:
            first, other, behind = ([replica.name] for replica in self.replicas)
            half_us = self.options.duration_ms * MS // 2
            mends = self._cut(behind, first + other)

            def mend() -> None:
                for each in mends:
                    each()

            def turn() -> None:
                mend()
                self.replicas[0].lose_disk()
                mends[:] = self._cut(other, first + behind)
                self.world.after(MS, self.replicas[0].start)

            self.world.schedule(half_us, turn)
            self.world.schedule(2 * half_us, mend)
            super().safety_phase()

        def _cut(self, some: list[str], others: list[str]) -> list[Action]:
            return [self.network.cut(some, others), self.network.cut(others, some)]

    changes = _four(replicas=3, term_views=1, profile=CALM, duration_ms=8_000, pause_ms=100)
    return Forgotten(replace(Options.with_omission(seed), **changes)).run().error


def _snapshots(**changes: Any) -> dict[str, Any]:
    """Four replicas that keep little, offer snapshots soon, and are joined by newcomers who need them."""
    few = {"checkpoint_blocks": 3, "offer_blocks": 1, "kept_blocks": 1}
    return _four(changes=2, duration_ms=5_000, pause_ms=150, **few, **changes)


class Prophet(Role):
    """Offers its snapshot as that of a block which nobody has made yet, and serves it so."""

    AHEAD = 1_000

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, SnapshotOffer):
            header = structs.replace(message.head.header, height=message.head.header.height + self.AHEAD)
            return (encode(structs.replace(message, head=structs.replace(message.head, header=header))),)
        if isinstance(message, Chunk):
            return (encode(structs.replace(message, height=message.height + self.AHEAD)),)
        return (data,)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, ChunkRequest):
            return (encode(structs.replace(message, height=message.height - self.AHEAD)),)
        return (data,)


def _with_a_prophet(seed: int) -> str:
    class Promised(Scenario):
        def safety_phase(self) -> None:
            self.replicas[0].corrupt(Prophet)
            super().safety_phase()

    return Promised(replace(Options.from_seed(seed), **_snapshots(roles=((0, "silent"),)))).run().error


WHOLE = whole()
DISPUTES = whole("whole replicas, busy", **_four(pause_ms=100, duration_ms=5_000))
CRASHES = whole(
    "whole replicas, L = 64, one silent, crashes",
    **_four(term_views=64, roles=((3, "silent"),), faults=("kill", "burn"), pause_ms=150, duration_ms=4_000),
)
STEADY = whole(
    "whole replicas, L = 64, crashes and broken links",
    **_four(term_views=64, faults=("kill", "burn", "break", "split"), pause_ms=150, duration_ms=4_000),
)
POWER = whole(
    "whole replicas, crashes in the middle of turns", **_four(faults=("burn",), duration_ms=5_000, pause_ms=150)
)
FAR_BEHIND = Ground("whole replicas, one far behind", _far_behind)
WRONG_ROOTS = whole(
    "whole replicas, L = 1, wrong roots", **_four(term_views=1, roles=((0, "wrong root"),), duration_ms=3_000)
)
CENSORED = whole(
    "whole replicas, L = 256, one censors",
    **_four(term_views=256, roles=((0, "censoring"),), profile=CALM, duration_ms=500),
)
FULL = flooded("a flood, blocks are full", scarce="blocks")
FLOODER = flooded("a flood, one floods along", byzantine="flooder")
CENSOR = flooded("a flood, blocks are full, one leaves reports out", groups=2_000, scarce="blocks", byzantine="censor")
CHANGES = whole(
    "whole replicas, the set changes",
    **_four(changes=3, faults=("kill", "burn", "split"), duration_ms=5_000, pause_ms=150),
)
FILLER = whole(
    "whole replicas, the set changes, messages are lost",
    **_four(changes=3, profile=AWFUL, duration_ms=6_000, pause_ms=150),
)
LATE = Ground("whole replicas, one late, one forges", _with_a_late_one)
POISONED = whole("whole replicas, snapshots, the set changes, one poisons", **_snapshots(roles=((0, "poisoning"),)))
PROMISED = Ground("whole replicas, snapshots, the set changes, one promises a later one", _with_a_prophet)
TWINS = Ground("twins", _twins)
OMISSION = Ground("whole replicas, omission faults", _omission)
FORGOTTEN = Ground("whole replicas, one of three lost its disk, one is behind, one is cut off", _on_the_word_of_one)
LONG_NIGHT = Ground("whole replicas, all down for a while", _after_a_long_night)
