"""A hub: payments over all channels of one wallet, with the peers that each have one with it, and from peer to peer.

The hub is a whole wallet in a process of its own, served as `wallet serve` does it: it opens onions, forwards, writes
its history. Each of its peers has keys, a journal, a link and syncs of its own (`benchmarks.network_peers`); they share
a few processes, so that some work while others wait for their disk. A real ledger opened every channel. Every payer has
one payment under way at a time, and pays again when that is committed: no state is signed for two of them. A payment
over two hops is four states, each signed by both, verified by both and synced by both. Afterwards both sides count what
each has: what did not arrive does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.floors import Floors
from benchmarks.network_peers import FEE, Peer
from benchmarks.result import Result
from examples.stage import PASSPHRASE, Play, stage
from layer1.client import LedgerClient
from layer1.collector import settle_memory
from layer1.crypto import Hash, PublicKey
from layer1.descriptors import raise_limit
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import OpenGroup, Transaction, sign_transaction
from layer1.loop import run
from layer2.driver import Contact
from layer2.opening import OpeningPolicy
from layer2.payments import Payments
from wallet.book import ChannelBook, ChannelRecord, Stage
from wallet.contacts import parse_contact
from wallet.home import Home
from wallet.wallet import Wallet

CHANNELS = 1_000
FEWER_CHANNELS = 96
"""With ``--quick``."""
DEPOSIT = 4_000
"""Of each side, minor units."""
PROCESSES = 4
"""That the peers share."""
TASKS = 4
"""Of a process of peers, one after the other."""
LIST = 250
"""Transactions in one request."""
ARRIVING = 25
"""Peers that dial the hub at a time: it takes so many strangers' handshakes at once, and each is one."""
VALID_MS = 500_000
PERIOD_MS = 86_400_000
LOCK_MS = 3_600_000
"""How far ahead locks expire."""
WARM_UP_S, LOAD_S = 2.0, 6.0
LESS_S = 2.0
"""With ``--quick``."""
MARK_DIRECT, MARK_ROUTED, MARK_MS = 3_000, 500, 15.0
PACE = MARK_ROUTED / 10
"""Payments per second, while their latency is measured."""

Paying = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Payments per second, and milliseconds."""

    direct: float
    routed: float
    latency_ms: float


def measure(floors: Floors, channels: int = CHANNELS, load_s: float = LOAD_S) -> list[Result]:
    """Direct payments, routed ones, and how long one of these takes."""
    found = run(_measure(channels, load_s))
    state_us = floors.sign_us + floors.verify_us
    state = f"1 signature of {floors.sign_us:.0f} us + 1 verification of {floors.verify_us:.0f} us"
    return [
        Result(
            f"direct payments of a hub over {channels:,} channels", found.direct, "per s", 1e6 / state_us,
            f"1 / ({state}): what each state costs the hub, whose turns share their syncs", MARK_DIRECT,
        ),
        Result(
            f"two-hop payments over {channels:,} channels", found.routed, "per s", 1e6 / (4 * state_us),
            f"1 / (4 states x ({state}))", MARK_ROUTED,
        ),
        Result(
            f"a two-hop payment, at {PACE:.0f} per s (median)", found.latency_ms, "ms", 4 * floors.exchange_us / 1e3,
            f"4 states x a bare exchange of {floors.exchange_us:.0f} us, one after the other", MARK_MS,
        ),
    ]  # fmt: skip


async def _measure(channels: int, load_s: float = LOAD_S) -> Measured:
    async with stage("hub") as play, contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wedge-bench-")))
        peers = [stack.enter_context(_process(_peers, folder / str(number))) for number in range(PROCESSES)]
        opened = await _open(play, peers, channels)
        hub = stack.enter_context(_process(_hub, play.homes["hub"]))
        contact: str = await asyncio.to_thread(hub.recv)
        await _ask(peers, *((each, contact) for each in opened))
        await asyncio.to_thread(hub.recv)  # all are in step
        paid, *got = await _ask([hub, *peers], ("direct", load_s))
        routed = await _ask(peers, ("routed", load_s))
        paced: list[list[float]] = await _ask(peers, *((f"paced {number}", load_s) for number in range(PROCESSES)))
        units, owed = sum(each.units for each in got), FEE * sum(each.units for each in routed)
        earned = units - paid.units + owed + FEE * sum(map(len, paced))
        await _ask([hub], ("has", channels * DEPOSIT + earned))
        left = sum(await _ask(peers, ("units", 0.0)))
        if left != channels * DEPOSIT - earned:
            raise RuntimeError(f"the peers have {left} units, not {channels * DEPOSIT - earned}")
    direct, forwarded = (sum(each.rate for each in loads) for loads in ([paid, *got], routed))
    return Measured(direct, forwarded, statistics.median(chain.from_iterable(paced)) * 1e3)


async def _ask(pipes: Sequence[Connection], *asked: Any) -> list[Any]:
    """Ask all processes the same, or each its own, and wait for their answers."""
    for pipe, each in zip(pipes, asked * len(pipes) if len(asked) == 1 else asked, strict=True):
        pipe.send(each)
    return [await asyncio.to_thread(pipe.recv) for pipe in pipes]


@dataclass(frozen=True, slots=True)
class Opened:
    """Channels, as the ledger has them."""

    agreements: list[GroupAgreement]
    ids: list[Hash]
    clock_ms: int


async def _open(play: Play, peers: Sequence[Connection], channels: int) -> list[Opened]:
    """Have the ledger open them; the hub takes them in when it starts, from its book, as in `benchmarks.hub`."""
    home, chain_id = Home.find(play.homes["hub"]), play.net.genesis.chain_id
    keys, book = home.keystore().unlock(PASSPHRASE), ChannelBook(home.channels_path)
    members: list[Member] = [*chain.from_iterable(await _ask(peers, (chain_id, channels // len(peers))))]
    async with LedgerClient(play.net.urls, play.net.genesis) as client:
        funds = [await client.new_transfer(keys.spending, member.funding, DEPOSIT) for member in members]
        await _submit(client, funds)
        until_ms, agreements = await client.clock() + VALID_MS, []
        for number, member in enumerate(members):
            ours = Member(keys.group_key(number).public, keys.spending.public, keys.spending.public, DEPOSIT, 0)
            terms = (PERIOD_MS, Payments.name, until_ms + 1, os.urandom(16))
            agreements.append(GroupAgreement(chain_id, (ours, member), *terms))
        openings = [Transaction(OpenGroup(each), until_ms, os.urandom(16)) for each in agreements]
        parts = [slice(start, start + channels // len(peers)) for start in range(0, channels, channels // len(peers))]
        theirs = chain.from_iterable(await _ask(peers, *(openings[part] for part in parts)))
        for number, (bare, signature) in enumerate(zip(openings, theirs, strict=True)):
            openings[number] = replace(bare, signatures=(sign_transaction(bare, chain_id, keys.spending), signature))
            book.put(ChannelRecord(openings[number], 0, number, members[number].funding, stage=Stage.OPENING))
        ids, clock_ms = await _submit(client, openings), await client.clock()
        return [Opened(agreements[part], ids[part], clock_ms) for part in parts]


async def _submit(client: LedgerClient, transactions: Sequence[Transaction]) -> list[Hash]:
    """Groups that they opened, if any."""
    done = []
    for start in range(0, len(transactions), LIST):
        done += await client.submit_many(transactions[start : start + LIST])
    refused = [output.message for output in done if output.code != "ok"]
    if refused:
        raise RuntimeError(f"the ledger refused: {refused[0]}")
    return [output.group_id for output in done if output.group_id is not None]


# --------------------------------------------------------------------------------------------------------- load


@dataclass(frozen=True, slots=True)
class Load:
    """What the payers of one process did."""

    payments: int
    """Committed within the measured time."""
    seconds: float
    units: int
    """All payments, warming up included: a direct one is of one unit."""

    @property
    def rate(self) -> float:
        """Payments per second."""
        return self.payments / self.seconds


async def _load(payers: Sequence[Paying], load_s: float) -> Load:
    """Let each pay again and again; count what is committed within the measured time."""
    begin = time.perf_counter() + WARM_UP_S
    end, counts = begin + load_s, [0, 0]

    async def payer(pay: Paying) -> None:
        while time.perf_counter() < end:
            await pay()
            counts[0] += 1
            counts[1] += begin <= time.perf_counter() < end

    await asyncio.gather(*map(payer, payers))
    return Load(counts[1], load_s, counts[0])


async def _pace(payers: Sequence[Paying], share: int, load_s: float) -> list[float]:
    """Let payers begin at a rate, whether or not those before have ended; how long each took, seconds.

    Args:
        payers: Of this process.
        share: Which of the processes this is: they take turns.
        load_s: For so long.
    """

    async def timed(pay: Paying) -> float:
        start = time.perf_counter()
        await pay()
        return time.perf_counter() - start

    tasks, start = [], time.perf_counter()
    for number, pay in zip(range(share, int(load_s * PACE), PROCESSES), cycle(payers), strict=False):
        await asyncio.sleep(start + number / PACE - time.perf_counter())
        tasks.append(asyncio.create_task(timed(pay)))
    return await asyncio.gather(*tasks)


# ---------------------------------------------------------------------------------------------------- processes


@contextlib.contextmanager
def _process(main: Callable[[Connection, Path], Any], folder: Path) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(main, theirs, folder))
    process.start()
    theirs.close()  # ours ends when the process does
    try:
        yield ours
    finally:
        ours.close()
        process.join(20)
        process.kill()


def _run(main: Callable[[Connection, Path], Any], pipe: Connection, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_limit()
    with contextlib.suppress(EOFError):
        run(main(pipe, folder))


async def _hub(pipe: Connection, home: Path) -> None:
    """A wallet that is served; it pays over every second channel."""
    async with Wallet.load(home, PASSPHRASE) as wallet:
        contact = await wallet.serve("127.0.0.1:0", OpeningPolicy())
        handles = [wallet.channel(view.id) for view in await wallet.channels()]
        pipe.send(contact)
        await _until(lambda: all(each.view().connected for each in handles))
        settle_memory()  # as `wallet serve` does
        pipe.send("ready")
        _, load_s = await asyncio.to_thread(pipe.recv)
        pipe.send(await _load([partial(each.pay, 1) for each in handles[::2]], load_s))
        _, units = await asyncio.to_thread(pipe.recv)
        await _until(lambda: sum(each.view().can_send for each in handles) == units)
        pipe.send("done")


async def _peers(pipe: Connection, folder: Path) -> None:
    """All peers; every second one pays: the hub, or another one over the hub."""
    chain_id, channels = await asyncio.to_thread(pipe.recv)
    peers = [Peer(folder / str(number), chain_id) for number in range(channels)]
    pipe.send([peer.member(DEPOSIT) for peer in peers])
    pipe.send([peer.sign(each) for peer, each in zip(peers, await asyncio.to_thread(pipe.recv), strict=True)])
    opened, text = await asyncio.to_thread(pipe.recv)
    found = parse_contact(text)
    await _join(peers, opened, Contact(found.address, found.host, found.port))
    payers, payees = peers[1::2], peers[0::2]
    routed = _routes(payers, payees, found.address, opened.clock_ms + LOCK_MS)
    pipe.send("ready")
    for _ in range(TASKS):
        asked, load_s = await asyncio.to_thread(pipe.recv)
        match asked.split():
            case ["direct"]:
                pipe.send(await _load([payer.pay_hub for payer in payers], load_s))
            case ["routed"]:
                pipe.send(await _load(routed, load_s))
            case ["paced", share]:
                pipe.send(await _pace(routed, int(share), load_s))
            case _:
                await _until(lambda: all(peer.group.pending is None for peer in peers))
                pipe.send(sum(peer.units for peer in peers))
    await asyncio.gather(*(peer.leave() for peer in peers))


async def _join(peers: Sequence[Peer], opened: Opened, hub: Contact) -> None:
    together = list(zip(peers, opened.agreements, opened.ids, strict=True))
    for start in range(0, len(peers), ARRIVING):
        some = together[start : start + ARRIVING]
        await asyncio.gather(*(peer.join(each, name, hub) for peer, each, name in some))
    for peer in peers:
        peer.host.note_clock(opened.clock_ms)


def _routes(payers: Sequence[Peer], payees: Sequence[Peer], hub: PublicKey, expiry_ms: int) -> list[Paying]:
    return [partial(payer.pay_over, hub, payee, expiry_ms) for payer, payee in zip(payers, payees, strict=True)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
