"""A dishonest member as a process: a whole wallet with its own keys and real links, whose words and deeds a role bends.

A role subclasses :class:`Liar`, and its file ends with ``play(Role())``. Run as a module with a home, it serves that
home, prints its contact, and then does what it is asked: a request per line on standard input, each ``{"verb": ...}``
with arguments, an answer per line on standard output. A verb is a public coroutine of the role.

What it knows is what an honest wallet knows. It signs with its own keys only; it says on links, and brings to layer 1,
whatever it likes. Its honest half brings nothing to layer 1 by itself.

Source: tests/simulation/groups/roles/role.py, the same for simulated wallets.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from msgspec import structs

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, RemoteError, WedgeError
from layer1.ledger.agreements import Body, Certificate, Claim, GroupHeader, sign_claim
from layer1.ledger.transactions import OpenGroup, Output, Report, Transaction, Wedge, sign_transaction, signers
from layer1.loop import run
from layer2.driver import GroupHost
from layer2.events import Effect, Event, Payload
from layer2.hosting import Channel
from layer2.messages import Message, decode_message
from layer2.opening import OpeningPolicy
from layer2.value import Group
from wallet import assembly
from wallet.submitter import Submitter
from wallet.wallet import Wallet

POLICY = OpeningPolicy(accept_deposit_up_to_units=500_000, accept_bond_up_to_units=50_000, min_challenge_ms=1_000)
LIFE_MS = 60_000
"""Of its transactions, on the ledger clock."""

Version = tuple[int, int]
"""Epoch and version."""


class Liar:
    """An honest wallet, which roles make worse."""

    wallet: Wallet

    def __init__(self) -> None:
        self.known: dict[Hash, dict[Version, tuple[Certificate, Body]]] = {}
        """Every certified state that its honest half ever held: an archive for lies."""

    # ------------------------------------------------------------------------------------------------ what roles bend

    def outgoing(self, message: Message) -> Iterable[Message]:
        """What really leaves when the honest half says this."""
        return (message,)

    def incoming(self, message: Message) -> Iterable[Message]:
        """What the honest half gets to see."""
        return (message,)

    # -------------------------------------------------------------------------------------------- what a test asks for

    async def open(self, contact: str, deposit: int, bond: int, period_ms: int, witness: str | None) -> str:
        """Open a channel as its primary, with as much of the peer."""
        channel = await self.wallet.open_channel(
            contact, deposit=deposit, peer_deposit=deposit, bond=bond, challenge_period_ms=period_ms, witness=witness
        )
        return channel.id.hex()

    async def pay(self, channel: str, amount: int) -> None:
        """Pay honestly."""
        await self.wallet.channel(channel).pay(amount)

    async def versions(self, channel: str) -> list[int]:
        """Its newest certificate's, and the highest that it signed."""
        group = self.group(channel)
        return [group.version, group.highest.version]

    async def wedge(self, channel: str, back: int = 0, k: int = 0) -> str:
        """Wedge with a version that is so far back, claiming to have signed nothing more than `k` versions above it."""
        certificate, body = self.state(channel, back)
        return await self.bring(Wedge(certificate, body, self.claim(channel, certificate.header, k)))

    async def claim_now(self, channel: str) -> str:
        """Bring its newest certificate, and a true claim of it."""
        group = self.group(channel)
        certificate, body = self.state(channel)
        claim = sign_claim(group.place.key, group.place.index, certificate.header.version, group.highest)
        return await self.bring(Report(group.group_id, certificate, body, (claim,)))

    # ------------------------------------------------------------------------------------------------------ its means

    def group(self, channel: str) -> Group:
        """What its honest half knows of a channel."""
        return self.host.groups[bytes.fromhex(channel)]

    def state(self, channel: str, back: int = 0) -> tuple[Certificate, Body]:
        """The newest certified state but so many."""
        states = self.known[bytes.fromhex(channel)]
        return states[sorted(states)[-1 - back]]

    def claim(self, channel: str, header: GroupHeader, k: int = 0) -> Claim:
        """A CLAIM of this header as newest certificate, and of its honest half's highest signature if `k`."""
        group = self.group(channel)
        return sign_claim(group.place.key, group.place.index, header.version, group.highest if k else header)

    @property
    def host(self) -> GroupHost:
        """Of its honest half."""
        return self.wallet._parts.host

    def say(self, channel: str, *messages: Message) -> None:
        """Say to the other member of a channel what its honest half does not."""
        group = self.group(channel)
        peer = group.place.agreement.members[group.others[0]].funding
        link = self.host._links[peer]
        assert isinstance(link, _Bent)
        for message in messages:
            assert link.link.send_nowait(encode(message)), "the link is gone"

    async def bring(self, payload: Payload | OpenGroup, signatures: Sequence[bytes] | None = None) -> str:
        """Bring it to layer 1; ``ok``, or the code by which it is refused."""
        ledger, key = self.wallet._parts.ledger, self.wallet._keys.spending
        bare = Transaction(payload, await ledger.clock() + LIFE_MS, os.urandom(16))
        if signatures is None:
            ours = sign_transaction(bare, ledger.genesis.chain_id, key)
            signatures = [ours for account in signers(payload) if account == key.public]
        return await self.submit(structs.replace(bare, signatures=tuple(signatures)))

    async def submit(self, transaction: Transaction) -> str:
        """Bring a whole transaction; its code, see :meth:`bring`."""
        try:
            return (await self.wallet._parts.ledger.submit(transaction)).code
        except Refused as refusal:
            return refusal.code

    # ---------------------------------------------------------------------------------------------------- the program

    def note(self, group: Group) -> None:
        """Keep what the honest half holds now."""
        states = self.known.setdefault(group.group_id, {})
        for state, certificate in ((group.state, group.certificate), group.best):
            states[state.header.epoch, state.version] = (certificate, state.body)

    async def main(self, home: str) -> None:
        """Serve, and do what is asked."""
        async with Wallet.load(home, os.environ["WALLET_PASSPHRASE"]) as wallet:
            self.wallet = wallet
            _say(await wallet.serve(None, POLICY))
            while line := await asyncio.to_thread(sys.stdin.readline):
                request = json.loads(line)
                _say(await self._answer(request.pop("verb"), request))

    async def _answer(self, verb: str, arguments: dict[str, Any]) -> Any:
        try:
            return await getattr(self, verb)(**arguments)
        except WedgeError as error:
            return {"error": f"{type(error).__name__}: {error}"}


class _Bent:
    """A link with a liar at this end."""

    def __init__(self, link: Channel, liar: Liar) -> None:
        self.link = link
        self._liar = liar
        self._heard: deque[bytes] = deque()

    @property
    def peer(self) -> PublicKey:
        return self.link.peer

    def send_nowait(self, data: bytes) -> bool:
        return all(list(map(self.link.send_nowait, map(encode, self._liar.outgoing(decode_message(data))))))

    async def receive(self) -> bytes:
        while not self._heard:
            data = await self.link.receive()
            try:
                self._heard.extend(encode(heard) for heard in self._liar.incoming(decode_message(data)))
            except RemoteError:
                self._heard.append(data)
        return self._heard.popleft()

    def cut(self, reason: str) -> None:
        self.link.cut(reason)

    async def close(self, reason: str = "") -> None:
        await self.link.close(reason)


def play(liar: Liar) -> None:
    """Be this liar until killed: the last line of a role's file. Arguments: a home."""

    class Host(GroupHost):
        async def attach(self, link: Channel) -> None:
            await super().attach(_Bent(link, liar))

        def _step(self, group_id: Hash, event: Event) -> list[Effect]:
            effects = super()._step(group_id, event)
            liar.note(self._groups[group_id])
            return effects

    class Silent(Submitter):
        def bring(self, payload: Payload) -> asyncio.Task[Output]:
            name = encode(payload)
            if name not in self._running:
                self._running[name] = asyncio.create_task(_never())
            return self._running[name]

    replace_in(assembly, "GroupHost", Host)
    replace_in(assembly, "Submitter", Silent)
    run(liar.main(sys.argv[1]))


async def happens(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the test, which waits for the answer, gives up first."""
    while not condition():  # noqa: ASYNC110 - nobody tells of what a liar waits for
        await asyncio.sleep(0.005)


async def _never() -> Output:
    await asyncio.Event().wait()
    raise AssertionError("it waits for ever")


def replace_in(module: ModuleType | type, name: str, value: object) -> None:
    """Put a lie into the place of something that is there, in this process."""
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name} any more; find the new place for this lie")
    setattr(module, name, value)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
