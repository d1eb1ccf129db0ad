"""A watchtower of many groups: how long it takes to be back, and how fast it answers a storm of stale wedges.

Restart: a store with 100,000 groups, and `wallet watchtower serve` as people start it, timed until it says that it
listens. Storm: groups that a real ledger opened are wedged stale, all at once, as fast as the ledger takes the wedges;
then the tower, which was away, is let loose on them. Afterwards layer 1 is asked, with proof, for each: what is not
reported does not count.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import structs

from benchmarks.floors import Floors
from benchmarks.result import Result
from examples.stage import PASSPHRASE
from layer1.client import LedgerClient
from layer1.crypto import ZERO_HASH, Domain, Hash, SigningKey, digest
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Delegation,
    GroupAgreement,
    GroupHeader,
    Member,
    group_id,
    initial_body,
    initial_certificate,
    sign_claim,
    sign_delegation,
    sign_state,
)
from layer1.ledger.genesis import Allocation
from layer1.ledger.transactions import OpenGroup, Payload, Transaction, Wedge, sign_transaction
from layer1.loop import run
from layer2.sealing import seal_body
from layer2.tower import Guarded
from wallet.wallet import Wallet
from wallet.watchtower.ledger import TowerLedger
from wallet.watchtower.lookout import Lookout
from wallet.watchtower.store import TowerStore

GROUPS = 100_000
"""In the store that a restart begins with."""
STORM = 1_000
"""Groups that are wedged at once."""
FEWER = 200
"""The same with ``--quick``."""
WRITTEN = 2_000
"""Entries in one transaction while the store is filled."""
LIST = 250
"""Transactions in one request."""
VERSION = 50
PERIOD_MS = 86_400_000
VALID_MS = 300_000
FUNDS = 10**9
MARK_MS = 5_000
MARK_PER_S = 100
"""All 100,000 groups in 17 minutes: a challenge period as it is proposed has more than a day."""
TIMEOUT_S = 60
PAYOUT = bytes(32)


def measure(_: Floors, storm: int = STORM) -> list[Result]:
    """Both."""
    return run(_measure(storm))


async def _measure(storm: int) -> list[Result]:
    funders = [SigningKey.generate(), SigningKey.generate()]
    with tempfile.TemporaryDirectory(prefix="wedge-bench-") as folder:
        plan = Plan(4, allocations=tuple(Allocation(key.public, FUNDS) for key in funders))
        await asyncio.to_thread(initialize, Path(folder) / "ledger", plan)
        async with Devnet(Path(folder) / "ledger") as ledger:
            back = await _restart(Path(folder) / "tower", ledger)
            storms = await _storm(Path(folder) / "storm.db", ledger, funders, storm)
    return [*back, *storms]


async def _restart(home: Path, ledger: Devnet) -> list[Result]:
    Wallet.create(home, ledger.genesis, ledger.urls, PASSPHRASE)
    size = await asyncio.to_thread(_fill, home / "tower.db")
    took_ms, floor_ms = await asyncio.to_thread(_restart_ms, home)
    return [
        Result(
            f"a watchtower of {GROUPS:,} groups restarts",
            took_ms,
            "ms",
            floor_ms,
            "starting Python with this program's packages, and unsealing its key: entries are read when they are asked "
            f"for; the file has {size / 2**20:.0f} MiB, {size / GROUPS:.0f} bytes per group",
            mark=MARK_MS,
        )
    ]


def _fill(path: Path) -> int:
    """As many entries as a tower guards at most; the file's bytes."""
    case = Case(0, [SigningKey.generate(), SigningKey.generate()], ZERO_HASH, PERIOD_MS)
    made = case.guarded()
    store = TowerStore(path)
    for start in range(0, GROUPS, WRITTEN):
        names = [digest(Domain.GROUP, number.to_bytes(8, "big")) for number in range(start, start + WRITTEN)]
        store.write([structs.replace(made, group_id=name) for name in names])
    if store.groups != GROUPS:
        raise RuntimeError(f"{store.groups} groups are in the store, {GROUPS} were put there")
    store.close()
    return path.stat().st_size


def _restart_ms(home: Path) -> tuple[float, float]:
    environment = {**os.environ, "WALLET_PASSPHRASE": PASSPHRASE, "WALLET_HOME": str(home)}
    start = time.perf_counter()
    unseal = (
        "import os, pathlib, wallet.cli, wallet.home, wallet.watchtower.serving\n"
        "home = wallet.home.Home.find(pathlib.Path(os.environ['WALLET_HOME']))\n"
        "home.keystore().unlock(os.environ['WALLET_PASSPHRASE'])"
    )
    subprocess.run([sys.executable, "-c", unseal], check=True, env=environment)
    floor_ms = (time.perf_counter() - start) * 1e3
    command = [sys.executable, "-c", "from wallet.cli import main; main()", "watchtower", "serve", "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            assert process.stdout is not None, "piped"
            said = msgspec.json.decode(process.stdout.readline())
            took_ms = (time.perf_counter() - start) * 1e3
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
    if said.get("channels") != GROUPS:
        raise RuntimeError(f"a tower of {GROUPS} groups came back with: {said}")
    return took_ms, floor_ms


@dataclass(frozen=True)
class Case:
    """One group: its members sign anything."""

    number: int
    funders: Sequence[SigningKey]
    chain_id: Hash
    open_before_ms: int

    @property
    def keys(self) -> list[SigningKey]:
        """Of the members in this group."""
        return [SigningKey(digest(Domain.GROUP, b"%d/%d" % (self.number, i))) for i in range(2)]

    @property
    def agreement(self) -> GroupAgreement:
        """Ten units each, and a bond of one."""
        pairs = zip(self.keys, self.funders, strict=True)
        members = tuple(Member(key.public, funder.public, funder.public, 10, 1) for key, funder in pairs)
        salt = self.number.to_bytes(16, "big")
        return GroupAgreement(self.chain_id, members, PERIOD_MS, "payments/2", self.open_before_ms, salt)

    @property
    def opening(self) -> Transaction:
        """Signed by both accounts."""
        bare = Transaction(OpenGroup(self.agreement), self.open_before_ms, self.number.to_bytes(16, "big"))
        return structs.replace(bare, signatures=tuple(sign_transaction(bare, self.chain_id, f) for f in self.funders))

    @property
    def id(self) -> Hash:
        """Layer 1's name for it."""
        return group_id(self.agreement, self.opening.id)

    def certificate(self, version: int, body: Body) -> Certificate:
        """Signed by both."""
        header = GroupHeader(self.chain_id, self.id, 0, version, ZERO_HASH, ZERO_HASH, body.hash)
        return Certificate(header, tuple(sign_state(key, header) for key in self.keys))

    def guarded(self) -> Guarded:
        """What the first member entrusted: a version in which it was paid."""
        body, keys = Body((15, 5), b"", (VERSION, 0), bytes(16)), self.keys
        certificate = self.certificate(VERSION, body)
        delegation = sign_delegation(keys[0], self.chain_id, Delegation(self.id, 0, 0, PAYOUT, 1, b""))
        sealed = seal_body(keys[0], certificate.header, body)
        names = tuple(key.public for key in keys)
        customer = self.funders[0].public
        return Guarded(self.id, 0, customer, 0, names, PERIOD_MS, certificate, sealed, delegation, 2**50)

    def stale_wedge(self) -> Wedge:
        """By the second member: what it had at first, and that it signed nothing else."""
        certificate, body = initial_certificate(self.agreement, self.id), initial_body(self.agreement)
        return Wedge(certificate, body, sign_claim(self.keys[1], 1, 0, certificate.header))


async def _storm(path: Path, ledger: Devnet, funders: Sequence[SigningKey], count: int) -> list[Result]:
    async with LedgerClient(ledger.urls, ledger.genesis) as client:
        head = await client.head()
        cases = [Case(number, funders, ledger.genesis.chain_id, head.clock + VALID_MS) for number in range(count)]
        await _submit(client, [case.opening for case in cases])
        store = TowerStore(path)
        store.write([case.guarded() for case in cases], height=(await client.head()).height)
        wedges = [_wrapped(case.stale_wedge(), head.clock + VALID_MS) for case in cases]
        start = time.perf_counter()
        await _submit(client, wedges)
        wedged_s = time.perf_counter() - start
        answered_s = await _answered_s(store, ledger, count)
        store.close()
        for case in cases:
            shown = (await client.group(case.id)).value
            if shown is None or shown.version != VERSION or not shown.forfeited[1]:
                raise RuntimeError(f"group {case.number} was not reported on: {shown}")
    return [
        Result(
            f"a storm of {count:,} stale wedges is answered",
            count / answered_s,
            "per s",
            count / wedged_s,
            f"as fast as the same ledger took the wedges, in lists of {LIST}; the tower proves each group first, and a "
            "report has three signatures where a wedge has one; 100,000 groups take "
            f"{GROUPS / (count / answered_s) / 60:.0f} minutes so",
            mark=MARK_PER_S,
        )
    ]


async def _answered_s(store: TowerStore, ledger: Devnet, count: int) -> float:
    """From the start of a tower that was away until layer 1 took its last report."""
    async with LedgerClient(ledger.urls, ledger.genesis) as client:
        lookout = Lookout(store, TowerLedger(client))
        start = time.perf_counter()
        watching = asyncio.create_task(lookout.run())
        try:
            async with asyncio.timeout(TIMEOUT_S + count / 20):
                while lookout.reported < count:  # noqa: ASYNC110 - it is looked at from outside
                    await asyncio.sleep(0.005)
            return time.perf_counter() - start
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def _wrapped(payload: Payload, until_ms: int) -> Transaction:
    return Transaction(payload, until_ms, os.urandom(16))


async def _submit(client: LedgerClient, transactions: Sequence[Transaction]) -> None:
    for start in range(0, len(transactions), LIST):
        outputs = await client.submit_many(transactions[start : start + LIST])
        if bad := next((output for output in outputs if output.code != "ok"), None):
            raise RuntimeError(f"the ledger refused: {bad}")
