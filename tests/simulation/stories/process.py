"""A process of a story: a loop, a home with a journal, a client of the ledger, links. Each kind says what it serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError
from tests.simulation.groups import describe
from tests.simulation.groups.home import HomeJournal
from tests.simulation.groups.loop import Killed, ProcessLoop
from tests.simulation.groups.process import Process
from tests.simulation.kernel import MS, World
from tests.simulation.stories.ledger import Ledger, LedgerView
from tests.simulation.stories.links import End, Exchange, StoryLoop

START_MS = 300
"""A process that is started anew takes so long, at most."""


class StoryProcess(Process):
    """One process over all its lives.

    Attributes:
        key: Identity of its links.
        is_honest: Whether checkers judge it.
        is_asleep: Nobody starts it before it is woken.
    """

    def __init__(self, world: World, name: str, key: SigningKey, ledger: Ledger, exchange: Exchange) -> None:
        super().__init__(world, name)
        self.key, self.ledger, self.exchange = key, ledger, exchange
        self.is_honest = True
        self.is_asleep = False
        self.cut_until_us = 0
        """Until then it does not reach the ledger."""
        self.ends: list[End] = []
        self.view: Any = None
        """Of the present life; stands in for a `LedgerClient`."""
        self.journal: HomeJournal | None = None
        self._loop: StoryLoop | None = None
        exchange.nodes[name] = self

    # ------------------------------------------------------------------------------------------- what each kind does

    def begin(self, loop: StoryLoop) -> None:
        """A life begins, within it."""
        raise NotImplementedError

    def end_life(self) -> None:
        """It is over."""

    def admits(self, peer: PublicKey, greeting: bytes) -> bool:
        """Whether this wallet may have a link now."""
        raise NotImplementedError

    def attach(self, end: End) -> None:
        """Serve a link that somebody made."""
        raise NotImplementedError

    def synced(self, records: Sequence[bytes]) -> None:
        """These are durable."""

    # ---------------------------------------------------------------------------------------------------------- lives

    @property
    def loop(self) -> StoryLoop | None:
        """Of the present life."""
        return self._loop

    def start(self) -> None:
        """Come back from the home."""
        if self.alive or self.gone or self.is_asleep:
            return
        self.lives += 1
        self.paused, self.fuse, self.at_sync = False, None, None
        loop = StoryLoop(self.world, self.world.random(f"{self.name} life {self.lives}"))  # type: ignore[abstract]
        loop.exchange, loop.node = self.exchange, self
        self._loop = loop
        self.world.note(self.name, "starts")
        with loop.running():
            self.view = LedgerView(self.ledger, loop, self._is_cut)
            try:
                self.begin(loop)
            except Killed:
                pass
            except LocalError as error:
                self._cannot_start(error)

    def _cannot_start(self, error: LocalError) -> None:
        """Its disk failed, or what is on it contradicts itself, as a liar's may."""
        disk_failed = self.journal is not None and bool(self.journal.failed)
        assert disk_failed or not self.is_honest, f"{self.name} is honest and cannot start: {error}"
        self.gone = not disk_failed
        self.kill()

    def _restart_soon(self) -> None:
        """As whoever looks after it would."""
        self.world.after(self._random.randint(10, START_MS) * MS, self.start)

    def open_journal(self, loop: ProcessLoop) -> HomeJournal:
        """Of this life."""
        self.journal = HomeJournal(self.home, loop, self.boundary, self._strike, self._wrote)
        return self.journal

    def kill(self) -> None:
        """SIGKILL."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.dead = True
        self.view.close()
        journal, self.journal = self.journal, None
        if journal is not None:
            before = len(self.home.disk.records)
            journal.crash(self._random, while_syncing=journal.syncing or bool(journal.failed))
            if found := self.home.disk.records[before:]:
                self.synced(found)
        self.end_life()
        self.world.stats["kills"] += 1
        self.world.note(self.name, "is killed")
        self.exchange.died(self)
        self._unburied.append(loop)
        self.world.after(0, self.bury)
        if not self.gone and not self.is_asleep:
            self._restart_soon()

    def sleep(self) -> None:
        """Off, until :meth:`wake`."""
        self.is_asleep = True
        self.world.note(self.name, "falls asleep")
        self.kill()

    def wake(self) -> None:
        """On again."""
        self.is_asleep = False
        self.start()

    def cut_off(self, duration_ms: int) -> None:
        """It does not reach the ledger for so long."""
        self.cut_until_us = self.world.now_us + duration_ms * MS
        self.world.note(self.name, "is cut off from the ledger")

    def _is_cut(self) -> bool:
        return self.world.now_us < self.cut_until_us

    def _wrote(self, records: list[bytes]) -> None:
        self._take_time()
        self.synced(records)

    # ---------------------------------------------------------------------------------------------------------- links

    def leaving(self, end: End, data: bytes) -> Iterable[bytes]:
        """What leaves is noted; a kill may strike before."""
        self.boundary()
        self.world.note(self.name, f"to {end.other.node.name}:", data, describe.message_of)
        return (data,)

    def arriving(self, end: End, data: bytes) -> Iterable[bytes]:
        """What comes, comes."""
        return (data,)

    def end_to(self, name: str) -> End | None:
        """The newest link with whoever is called so."""
        return next((end for end in reversed(self.ends) if end.other.node.name == name), None)
