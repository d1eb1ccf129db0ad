"""How anybody talks to a ledger, and how much to believe an answer.

What: queries, submission and events over the HTTP APIs of some replicas, given the genesis.

*Safety:* what :meth:`LedgerClient.account`, `group`, `output`, `submit` and `clock` return is final on the chain of the
genesis, whatever all replicas that were asked may have said.

Every answer carries a proof that leads to a header certified by a quorum of the genesis's replicas. A head must also
be recent by our own clock, and never below one that we have seen: an old truth is how one is talked into acting on a
state that has passed. What a proof cannot show is that something is *not* there: "no such transaction" is believed
only of f+1 replicas whose own verified clocks are past its `valid_until`, since one of f+1 is honest. For an opening
no number of words is needed: the absence of its group is proven.

Dead and lying replicas are routed around, see :mod:`layer1.failover`. URLs should be of distinct replicas, f+1 of them
at least.

*Source:* docs/design/architecture.md, "Believing an answer"; consensus.md, "Mempool and batches".
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import msgspec

from layer1.codec import decode, encode
from layer1.crypto import Hash, PublicKey, SigningKey, format_address
from layer1.errors import Refused, RemoteError, WedgeError
from layer1.eventstream import EventReader, LedgerEvent
from layer1.failover import (
    ClientLimits,
    Declined,
    LedgerUnreachable,
    Replica,
    Replicas,
    Reply,
    Stale,
    StaleLedger,
    Unavailable,
)
from layer1.header import Header
from layer1.ledger.agreements import group_id as name_of_group
from layer1.ledger.genesis import SALT_BYTES, Genesis
from layer1.ledger.records import Account, Group
from layer1.ledger.transactions import OpenGroup, Output, Transaction, Transfer, sign_transaction
from layer1.proof import (
    AccountProof,
    BlockProof,
    GroupProof,
    HeadProof,
    OutputProof,
    Verified,
    check_fresh,
    max_age_ms,
    verify_account,
    verify_block,
    verify_group,
    verify_head,
    verify_output,
)

__all__ = [
    "ClientLimits",
    "LedgerClient",
    "LedgerEvent",
    "LedgerUnreachable",
    "StaleLedger",
    "TransactionDead",
    "fetch_genesis",
    "new_transfer",
]

T = TypeVar("T")

TRANSFER_LIFE_MS = 300_000
"""A transfer made here is valid for five minutes: time to get it through an outage, and then to know its fate."""
LIST_SIZE = 500
"""Transactions in one POST."""
AT_ONCE = 16
"""Lone submissions in flight."""
POLL_MS = 500
"""Pause between looks at a transaction whose fate is open."""


_PASSING = {"expired", "already_executed"}
"""Refusals that say nothing against a transaction; whether its time is over, the verified clock tells."""


class TransactionDead(WedgeError):
    """The transaction is not in the ledger and its `valid_until` is past: it never will be. Sign a new one."""


@dataclass(slots=True)
class _Fate:
    """What is known of a transaction on its way."""

    refusals: dict[Replica, Refused]
    """By replica, why it does not take the transaction."""
    maybe_taken: bool = False
    """Somebody may hold it, so that it may execute whatever others say."""


class LedgerClient:
    """A reader and writer of one ledger. Use as ``async with``.

    Attributes:
        genesis: What everything is verified against.
        height: Highest verified height seen; nothing older is believed to be the head.
    """

    genesis: Genesis
    height: int

    def __init__(
        self,
        urls: Sequence[str],
        genesis: Genesis,
        limits: ClientLimits | None = None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Remember where to ask.

        Args:
            urls: Of the APIs of distinct replicas, such as ``http://127.0.0.1:8080``.
            genesis: Of the ledger; its chain id compared with what one was told.
            limits: How patient to be.
            wall_ms: This machine's clock, ms since 1970.
        """
        self.genesis = genesis
        self.height = 0
        self.limits = limits or ClientLimits()
        self._replicas = Replicas(urls, self.limits)
        self._wall_ms = wall_ms

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back all connections."""
        await self._replicas.close()

    # ------------------------------------------------------------------------------------------------------ reading

    async def head(self) -> Header:
        """The newest final header, verified and fresh.

        Raises:
            StaleLedger: No replica has a recent one.
            LedgerUnreachable: No replica gave an answer to believe.
        """
        return await self._replicas.first(self._head_of)

    async def clock(self) -> int:
        """The ledger clock of the newest final header, ms, verified and fresh. Raises as :meth:`head` does."""
        return (await self.head()).clock

    async def account(self, address: PublicKey) -> Verified[Account]:
        """An account, verified and fresh; of 0 if nobody ever paid it. Raises as :meth:`head` does."""
        path = f"/accounts/{format_address(address)}?proof=true"

        async def ask(replica: Replica) -> Verified[Account]:
            reply = await self._ok(replica, path)
            return self._newest(verify_account(self.genesis, address, decode(reply.proof(), AccountProof)))

        return await self._replicas.first(ask)

    async def group(self, group_id: Hash) -> Verified[Group | None]:
        """A group, verified and fresh; None if there is none of this id. Raises as :meth:`head` does."""
        path = f"/groups/{group_id.hex()}?proof=true"

        async def ask(replica: Replica) -> Verified[Group | None]:
            reply = await self._ok(replica, path, 404)
            return self._newest(verify_group(self.genesis, group_id, decode(reply.proof(), GroupProof)))

        return await self._replicas.first(ask)

    async def output(self, transaction_id: Hash) -> Verified[Output] | None:
        """What became of a transaction, verified. None if no replica that answers knows it, which proves nothing.

        Raises:
            LedgerUnreachable: No replica answered.
        """
        unknown = 0

        async def ask(replica: Replica) -> Verified[Output] | None:
            nonlocal unknown
            found = await self._output_of(replica, transaction_id)
            if found is None:
                unknown += 1
                if unknown < len(self._replicas.all):
                    raise Declined(f"{replica.url}: transaction {transaction_id.hex()} is not final there")
            return found

        try:
            return await self._replicas.first(ask)
        except LedgerUnreachable:
            if unknown:
                return None
            raise

    async def status(self) -> dict[str, Any]:
        """One replica's own word on itself, as ``GET /status`` gives it: not proven."""

        async def ask(replica: Replica) -> dict[str, Any]:
            return {"url": replica.url, **(await self._ok(replica, "/status")).body}

        return await self._replicas.first(ask)

    def events(
        self, groups: Iterable[Hash] = (), accounts: Iterable[PublicKey] = (), after: int | None = None
    ) -> AsyncGenerator[LedgerEvent, None]:
        """Follow final blocks, and what happens to these groups and accounts (to all, if none are named).

        Blocks come verified, once, and without a gap, whichever replicas they come from, each after what happened in
        it. That is a hint: ask for the proof before acting. A liar can leave hints out, or show blocks late; so
        whoever guards a group also looks at it, with proof, several times in a challenge period. The iterator goes on
        until it is closed; it outlives an unreachable ledger.

        Args:
            groups: Ids.
            accounts: Addresses.
            after: Height of the last block that was seen; without it, from now on.
        """
        reader = EventReader(self._replicas, self._final, self._stall_ms(), groups, accounts)
        return reader.follow(self._start(after))

    async def _start(self, after: int | None) -> int:
        return (await self.head()).height if after is None else after

    def _stall_ms(self) -> int:
        return max_age_ms(self.genesis.parameters)

    # --------------------------------------------------------------------------------------------------- submitting

    async def submit(self, transaction: Transaction) -> Output:
        """Bring a transaction into the ledger, and wait until it is final.

        The same transaction is brought again, to other replicas too, until its fate is known: it executes once. May
        be cancelled and called again at any time.

        Returns:
            Its output, verified. Its code is ``ok``, or says why the ledger refused it.

        Raises:
            Refused: f+1 replicas, or all there are, do not take it as things are, and nobody else was given it in
                this call. Whoever holds it may still get it executed until `valid_until`, should things change.
            TransactionDead: Its life span is over and it did not execute; it never will.
            LedgerUnreachable: Its fate cannot be learnt now. Call again with the same transaction.
        """
        fate = _Fate({})
        last_chance = time.monotonic() + self._patience_s(transaction, await self.clock())
        while True:
            output = await self._bring(transaction, fate)
            if output is not None:
                return output
            if await self.clock() > transaction.valid_until_ms:
                return await self._settle(transaction)
            if time.monotonic() > last_chance:
                raise LedgerUnreachable(
                    f"the ledger's clock did not reach {transaction.valid_until_ms} in time, and transaction "
                    f"{transaction.id.hex()} is not final. It may still execute: submit the same one again"
                )
            await asyncio.sleep(POLL_MS / 1000)

    async def submit_many(self, transactions: Sequence[Transaction]) -> list[Output]:
        """As :meth:`submit`, for many at once; outputs in the same order.

        Raises as :meth:`submit` does, for the first that fails; others may execute.
        """
        known: dict[Hash, Output] = {}
        for start in range(0, len(transactions), LIST_SIZE):
            known |= await self._bring_list(transactions[start : start + LIST_SIZE])
        slots = asyncio.Semaphore(AT_ONCE)

        async def alone(transaction: Transaction) -> Output:
            async with slots:
                return await self.submit(transaction)

        names = [transaction.id for transaction in transactions]
        rest = [t for t, name in zip(transactions, names, strict=True) if name not in known]
        outputs = await asyncio.gather(*map(alone, rest), return_exceptions=True)
        for output in outputs:
            if isinstance(output, BaseException):
                raise output
            known[output.transaction_id] = output
        return [known[name] for name in names]

    async def new_transfer(self, key: SigningKey, recipient: PublicKey, amount: int) -> Transaction:
        """A signed transfer that is valid for five minutes of the ledger clock. Raises as :meth:`head` does."""
        return new_transfer(self.genesis, key, recipient, amount, await self.clock())

    def _enough(self) -> int:
        """So many replicas have an honest one among them, if there are so many."""
        return min(self.genesis.faults + 1, len(self._replicas.all))

    def _patience_s(self, transaction: Transaction, clock: int) -> float:
        """How long the ledger clock may take to pass `valid_until`, if the ledger runs at all."""
        return max(transaction.valid_until_ms - clock, 0) / 1000 + self._stall_ms() / 1000

    async def _bring(self, transaction: Transaction, fate: _Fate) -> Output | None:
        """Give the transaction to a replica, or to several, and wait; None if it is not final yet."""
        body = msgspec.msgpack.encode([encode(transaction)])
        name = transaction.id

        async def ask(replica: Replica) -> Output:
            reply = await self._post(replica, body, "&proof=true", fate)
            if reply.code == "already_executed" and (found := await self._output_of(replica, name)) is not None:
                return found.value
            if reply.status >= 400:
                raise self._refusal(replica, reply, fate)
            fate.maybe_taken = True
            item = _items(reply, 1)[0]
            if item.get("status") != "final":
                raise Declined(f"{replica.url}: the transaction is not final yet")
            return verify_output(self.genesis, name, decode(Reply(200, item).proof(), OutputProof)).value

        try:
            return await self._replicas.first(ask, self.limits.submit_hedge_ms)
        except LedgerUnreachable:
            if fate.maybe_taken or fate.refusals:
                return None
            raise

    def _refusal(self, replica: Replica, reply: Reply, fate: _Fate) -> WedgeError:
        """What to make of a replica that does not take a transaction: f+1 of them, or all, are believed."""
        fate.refusals[replica] = Refused(reply.code, reply.detail)
        final = reply.code not in _PASSING and not fate.maybe_taken
        if final and len(fate.refusals) >= self._enough():
            return fate.refusals[replica]
        return Declined(f"{replica.url}: {reply.code}: {reply.detail}")

    async def _post(self, replica: Replica, body: bytes, query: str, fate: _Fate | None = None) -> Reply:
        wait_ms = self.limits.submit_wait_ms
        path = f"/transactions?wait=final&timeout_ms={wait_ms}{query}"
        try:
            return await self._replicas.post(replica, path, body, "application/msgpack", wait_ms)
        except (Unavailable, RemoteError, asyncio.CancelledError) as error:
            if fate is not None and not (isinstance(error, Unavailable) and not error.heard):
                fate.maybe_taken = True  # the answer is lost, not necessarily the question
            raise

    async def _bring_list(self, transactions: Sequence[Transaction]) -> dict[Hash, Output]:
        """Give a list to one replica; what of it is final soon, verified. Whatever fails is left to :meth:`submit`."""
        body = msgspec.msgpack.encode([encode(transaction) for transaction in transactions])

        async def ask(replica: Replica) -> dict[Hash, Output]:
            reply = await self._post(replica, body, "")
            if reply.status >= 400:
                return {}
            items = _items(reply, len(transactions))
            heights = {height for item in items if isinstance(height := item.get("height"), int)}
            outputs = [output for height in sorted(heights) for output in await self._outputs_of(replica, height)]
            return {output.transaction_id: output for output in outputs}

        found = await self._replicas.first(ask, self.limits.submit_hedge_ms)
        wanted = {transaction.id for transaction in transactions}
        return {name: output for name, output in found.items() if name in wanted}

    async def _settle(self, transaction: Transaction) -> Output:
        """What became of a transaction whose life span is over.

        Raises:
            TransactionDead: Nothing, and nothing will.
            LedgerUnreachable: It is not known.
        """
        if (found := await self.output(transaction.id)) is not None:
            return found.value
        if isinstance(transaction.payload, OpenGroup):
            absent = await self._is_group_absent(transaction.payload, transaction)
        else:
            absent = await self._is_unknown_to_enough(transaction)
        if absent:
            raise TransactionDead(
                f"transaction {transaction.id.hex()} was valid until {transaction.valid_until_ms}, the ledger's "
                "clock is past that, and it did not execute: it never will. Sign a new one"
            )
        if (found := await self.output(transaction.id)) is not None:
            return found.value
        raise LedgerUnreachable(
            f"transaction {transaction.id.hex()} is past its time, but only {len(self._replicas.all)} replicas are "
            f"known and {self.genesis.faults + 1} must say that it did not execute: add URLs, submit the same one again"
        )

    async def _is_group_absent(self, opening: OpenGroup, transaction: Transaction) -> bool:
        """Whether it is proven, at a clock past the opening's life span, that it made no group."""
        found = await self.group(name_of_group(opening.agreement, transaction.id))
        return found.value is None and found.header.clock > transaction.valid_until_ms

    async def _is_unknown_to_enough(self, transaction: Transaction) -> bool:
        """Whether f+1 replicas, each with a verified clock past the life span, do not have the transaction."""

        async def lacks(replica: Replica) -> bool:
            try:
                if (await self._head_of(replica)).clock <= transaction.valid_until_ms:
                    return False
                return await self._output_of(replica, transaction.id) is None
            except WedgeError:
                return False

        answers = await asyncio.gather(*(lacks(replica) for replica in self._replicas.all))
        return sum(answers) >= self.genesis.faults + 1

    # ----------------------------------------------------------------------------------------------------- one replica

    async def _ok(self, replica: Replica, path: str, *others: int) -> Reply:
        """An answer of status 200, or of one of `others`; the questions asked here have no other answer."""
        reply = await self._replicas.get(replica, path)
        if reply.status not in {200, *others}:
            raise RemoteError(f"{replica.url}: status {reply.status} for {path}: {reply.code} {reply.detail}")
        return reply

    async def _head_of(self, replica: Replica) -> Header:
        head = decode((await self._ok(replica, "/status")).proof(), HeadProof)
        return self._newest(Verified(None, verify_head(self.genesis, head))).header

    async def _output_of(self, replica: Replica, transaction_id: Hash) -> Verified[Output] | None:
        reply = await self._ok(replica, f"/transactions/{transaction_id.hex()}?proof=true", 404)
        if reply.status == 404:
            return None
        return verify_output(self.genesis, transaction_id, decode(reply.proof(), OutputProof))

    async def _outputs_of(self, replica: Replica, height: int) -> tuple[Output, ...]:
        reply = await self._ok(replica, f"/blocks/{height}?proof=true")
        return verify_block(self.genesis, decode(reply.proof(), BlockProof)).value

    def _final(self, head: HeadProof) -> Header:
        """Verify a header that need not be the newest."""
        header = verify_head(self.genesis, head)
        self.height = max(self.height, header.height)
        return header

    def _newest(self, answer: Verified[T]) -> Verified[T]:
        """Accept what says that it is the newest, if it can be.

        Raises:
            Stale: It is too old by the clock, or below a head that we have seen.
        """
        header = answer.header
        try:
            check_fresh(header, self._wall_ms(), self.genesis.parameters)
        except RemoteError as error:
            raise Stale(str(error)) from error
        if header.height < self.height:
            raise Stale(f"the head is block {header.height}, and block {self.height} is final: the replica is behind")
        self.height = header.height
        return answer


def _items(reply: Reply, count: int) -> list[dict[str, Any]]:
    items = reply.body.get("items")
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        raise RemoteError(f"the answer to {count} transactions is not a list of {count}")
    return items


def new_transfer(genesis: Genesis, key: SigningKey, recipient: PublicKey, amount: int, clock_ms: int) -> Transaction:
    """A signed transfer, valid for five minutes from `clock_ms` on, or for as long as the ledger allows.

    Args:
        genesis: Of the ledger.
        key: The sender's.
        recipient: An address.
        amount: Minor units, at least 1.
        clock_ms: The ledger clock, verified: :meth:`LedgerClient.clock`.
    """
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    bare = Transaction(Transfer(key.public, recipient, amount), until, os.urandom(SALT_BYTES))
    return msgspec.structs.replace(bare, signatures=(sign_transaction(bare, genesis.chain_id, key),))


async def fetch_genesis(url: str, limits: ClientLimits | None = None) -> Genesis:
    """Ask a replica for its genesis. Believe it only if its `chain_id` is the one you were told elsewhere.

    Raises:
        LedgerUnreachable: No answer, or none that is a genesis.
    """
    replicas = Replicas([url], limits or ClientLimits())

    async def ask(replica: Replica) -> Genesis:
        reply = await replicas.get(replica, "/genesis")
        try:
            return decode(bytes.fromhex(str(reply.body.get("encoded"))), Genesis)
        except ValueError as error:
            raise RemoteError(f"{url}: the answer of status {reply.status} is no genesis in hex") from error

    try:
        return await replicas.first(ask)
    finally:
        await replicas.close()
