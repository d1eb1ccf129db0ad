"""A witness of a story: `wallet.witness` on a simulated home."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.records import Group
from layer1.ledger.transactions import Report
from layer2.engaging import Promised, WitnessPolicy
from tests.simulation.stories.links import End, StoryLoop
from tests.simulation.stories.process import StoryProcess
from wallet.submitter import Submitter
from wallet.witness.desk import WitnessDesk
from wallet.witness.serving import Lookout


class WitnessProcess(StoryProcess):
    """One witness; a plot may make it lie by what leaves it, and by what it brings."""

    desk: WitnessDesk | None = None
    submitter: Submitter | None = None
    lies: Callable[[End, bytes], Iterable[bytes]] | None = None
    """What really leaves; None while it is honest."""
    hears: Callable[[End, bytes], Iterable[bytes]] | None = None
    """What it gets to hear, likewise."""
    brings: Callable[[Report], bool] = staticmethod(lambda report: True)

    def promise(self, agreement: GroupAgreement, requester: PublicKey) -> None:
        """What it said when the group was made, and the journal has."""
        self.home.disk.records.append(encode(Promised.of(agreement, requester)))

    def begin(self, loop: StoryLoop) -> None:
        """As `wallet.witness.serving.witness`."""

        async def look(group_id: Hash) -> Group | None:
            found: Group | None = (await self.view.group(group_id)).value
            return found

        submitter = self.submitter = Submitter(self.view)
        desk = self.desk = WitnessDesk(
            self.open_journal(loop),  # type: ignore[arg-type]  # all that a desk uses of a journal
            self.key,
            self.view.genesis.chain_id,
            WitnessPolicy(),
            look=look,
            clock=self.view.clock,
        )
        lookout = Lookout(desk, self.view)

        def bring(report: Report) -> None:
            self.boundary()
            if self.brings(report):
                submitter.bring(report)

        desk.on_failure = self._failed
        desk.on_submission = bring
        desk.on_taken = lookout.want
        loop.spawn(lookout.run(), f"{self.name}: the lookout")

    def _failed(self, error: LocalError) -> None:
        self.world.after(0, self.kill)

    def end_life(self) -> None:
        self.desk = self.submitter = None

    def admits(self, peer: PublicKey, greeting: bytes) -> bool:
        loop, desk = self.loop, self.desk
        assert loop is not None and desk is not None, "asked while it runs"
        with loop.running():
            return desk.admits(peer)

    def attach(self, end: End) -> None:
        assert self.loop is not None and self.desk is not None, "a link is of a life"
        self.loop.spawn(self.desk.attach(end), f"{self.name}: serving a link")

    def leaving(self, end: End, data: bytes) -> Iterable[bytes]:
        super().leaving(end, data)
        return (data,) if self.lies is None else self.lies(end, data)

    def arriving(self, end: End, data: bytes) -> Iterable[bytes]:
        return (data,) if self.hears is None else self.hears(end, data)
