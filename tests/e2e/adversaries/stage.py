"""What every adversary's test begins with: a ledger, an honest Bob who is served, and the liar's process, Mallory."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layer1.client import LedgerClient
from layer1.crypto import format_address
from layer1.devnet import Devnet
from layer1.ledger.records import Forfeit, Group, Reason, Status
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, ENVIRONMENT, READY_S, Serving, Town, town
from wallet.api.client import RemoteCommands
from wallet.home import Home
from wallet.requests import ChannelView, CloseChannel, OpenChannel, Pay, ShowChannel

DEPOSIT = 10_000
"""Minor units that each of the two puts into a channel."""
BOND = 2_000
"""Minor units of each of them."""
AMPLE_MS = 120_000
"""A challenge period that no test waits for: two who have both claimed are settled at once (rule 10)."""


@dataclass
class Mallory:
    """The liar's process."""

    process: asyncio.subprocess.Process
    contact: str

    async def does(self, verb: str, **arguments: Any) -> Any:
        """Have it do something; its answer. It must be able to: whether it gains by it, others say."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        assert line, f"the liar ended at {verb}: see its log"
        answer = json.loads(line)
        assert not (isinstance(answer, dict) and "error" in answer), (verb, arguments, answer)
        return answer


@dataclass
class Stage:
    """Both, with money, and what layer 1 proves."""

    place: Town
    ledger: LedgerClient
    bob: RemoteCommands
    mallory: Mallory
    witness: str | None = None
    """Contact of the one that Bob trusts; None for channels without."""

    async def opened(self, primary: str = "mallory", period_ms: int = AMPLE_MS) -> str:
        """A channel with 100.00 and a bond of 20.00 of each, whose primary is this one."""
        contact = self.place.serving["bob"].contact
        if primary == "mallory":
            channel: str = await self.mallory.does(
                "open", contact=contact, deposit=DEPOSIT, bond=BOND, period_ms=period_ms, witness=self.witness
            )
            return channel
        request = OpenChannel(
            contact=self.mallory.contact,
            deposit=DEPOSIT,
            peer_deposit=DEPOSIT,
            bond=BOND,
            challenge_period_ms=period_ms,
        )
        return (await self.bob.run(request)).id

    async def pays(self, channel: str, amount: int) -> None:
        """Bob pays Mallory, and it is committed."""
        assert (await self.bob.run(Pay(target=channel, amount=amount))).committed == 1

    async def view(self, channel: str) -> ChannelView:
        """What Bob's wallet shows."""
        return await self.bob.run(ShowChannel(channel=channel))

    async def force(self, channel: str) -> ChannelView:
        """Bob's user closes without the peer."""
        return await self.bob.run(CloseChannel(channel=channel, force=True))

    async def closed(self, channel: str) -> Settled:
        """Bob's user closes with the peer, who agrees; how that ends."""
        await self.bob.run(CloseChannel(channel=channel))
        return await self.settled(channel)

    async def group(self, channel: str) -> Group:
        """What layer 1 shows, with proof."""
        found = (await self.ledger.group(bytes.fromhex(channel))).value
        assert found is not None
        return found

    async def bob_claims(self, channel: str) -> Group:
        """Wait until layer 1 has Bob's claim."""

        async def claimed() -> bool:
            group = await self.group(channel)
            return group.claims[self.bobs(group)] is not None

        await until(claimed, "Bob claims")
        return await self.group(channel)

    async def settled(self, channel: str) -> Settled:
        """Wait until layer 1 has settled the channel; how."""

        async def closed() -> bool:
            return (await self.group(channel)).status is Status.CLOSED

        await until(closed, "layer 1 settles the channel")
        group = await self.group(channel)
        bob = self.bobs(group)
        assert group.reason is not None
        return Settled(
            group.version, group.payouts[bob], group.payouts[1 - bob], group.forfeits[bob], group.forfeits[1 - bob],
            group.reason,
        )  # fmt: skip

    def bobs(self, group: Group) -> int:
        """Bob's place in it."""
        address = self.place.serving["bob"].contact.partition("@")[0]
        mine = [i for i, member in enumerate(group.agreement.members) if format_address(member.funding) == address]
        return mine[0]


@dataclass(frozen=True)
class Settled:
    """How a channel ended."""

    version: int
    bob: int
    """Minor units that Bob got: balance, bond, and what others forfeited to him."""
    mallory: int
    bob_forfeits: Forfeit | None
    mallory_forfeits: Forfeit | None
    reason: Reason

    @property
    def honest(self) -> tuple[int, int]:
        """What both got; nobody lost a bond."""
        assert (self.bob_forfeits, self.mallory_forfeits) == (None, None), self
        return self.bob, self.mallory


@asynccontextmanager
async def stage(
    folder: Path, net: Devnet, role: str, *, witnessed: bool = False, others: Sequence[str] = ()
) -> AsyncIterator[Stage]:
    """A served Bob, and a liar of this module, in fresh homes; its witness, too, in a home of that name, Wanda.

    Args:
        folder: For the homes.
        net: The ledger.
        role: The liar's module.
        witnessed: Whether channels are to have the witness.
        others: Homes with money for who else is needed; the test serves them.
    """
    names = ["mallory", "bob", *(["wanda"] if witnessed else []), *others]
    async with town(folder, net, names) as place, LedgerClient(net.urls, net.genesis) as ledger:
        witness = (await start(place, role, "wanda")).contact if witnessed else None
        trusted = () if witness is None else ("--accept-witness", witness)
        _, mallory = await asyncio.gather(place.serve("bob", *ACCEPT, *trusted), start(place, role))
        bob = RemoteCommands.find(Home(folder / "bob"))
        assert bob is not None
        yield Stage(place, ledger, bob, mallory, witness)


async def start(place: Town, role: str, home: str = "mallory") -> Mallory:
    """The process of a role."""
    with (place.folder / f"{home}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", role, str(place.folder / home)),
            env=ENVIRONMENT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    contact = json.loads(await asyncio.wait_for(process.stdout.readline(), READY_S))
    place.serving[home] = Serving(process, contact)
    return Mallory(process, contact)
