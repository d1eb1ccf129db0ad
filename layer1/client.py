"""How anybody talks to a ledger, and how much to believe an answer.

What: queries (see :mod:`layer1.reader`), submission and events over the HTTP APIs of some replicas, given the genesis.

*Safety:* a transaction is said to have executed, or to be dead, only if that is so, whatever up to f of the replicas
that were asked may say, and whoever fails in between.

An output is proven. What a proof cannot show is that something is *not* there: "no such transaction" is believed only
of f+1 replicas whose own verified clocks are past its `valid_until`, since one of f+1 is honest. For an opening no
number of words is needed: the absence of its group is proven. Until one of the two is known, the same transaction is
brought again: it executes once.

:class:`ReplicaClient` is the API of one replica as it is, typed and not verified.

Dead and lying replicas are routed around, see :mod:`layer1.failover`. URLs should be of distinct replicas, f+1 of them
at least.

*Source:* docs/design/architecture.md, "Believing an answer"; consensus.md, "Mempool and batches".
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from layer1.codec import decode, encode
from layer1.consensus.evidence import Evidence
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused, RemoteError, WedgeError
from layer1.eventstream import EventReader, LedgerEvent
from layer1.failover import (
    ClientLimits,
    Declined,
    LedgerUnreachable,
    Replica,
    Reply,
    StaleLedger,
    Unavailable,
)
from layer1.ledger.agreements import group_id as name_of_group
from layer1.ledger.genesis import SALT_BYTES, Genesis
from layer1.ledger.replicas import ChangeReplicas
from layer1.ledger.transactions import (
    Accusation,
    Appoint,
    Command,
    OpenGroup,
    Output,
    RegisterPreimages,
    Transaction,
    Transfer,
    sign_transaction,
)
from layer1.light import LedgerAttacked, LightClient
from layer1.proof import BlockProof, OutputProof, max_age_ms
from layer1.reader import LedgerReader, fetch_genesis
from layer1.replica_client import ReplicaClient

__all__ = [
    "ClientLimits",
    "LedgerAttacked",
    "LedgerClient",
    "LedgerEvent",
    "LedgerUnreachable",
    "LightClient",
    "ReplicaClient",
    "StaleLedger",
    "TransactionDead",
    "Unavailable",
    "fetch_genesis",
    "new_accusation",
    "new_appointment",
    "new_change",
    "new_command",
    "new_registration",
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


class LedgerClient(LedgerReader):
    """A reader and writer of one ledger. Use as ``async with``."""

    def events(
        self,
        groups: Iterable[Hash] = (),
        accounts: Iterable[PublicKey] = (),
        after: int | None = None,
        kinds: Iterable[str] = (),
    ) -> AsyncGenerator[LedgerEvent, None]:
        """Follow final blocks, and what happens to these groups and accounts (to all, if none are named).

        Blocks come verified, once, and without a gap, whichever replicas they come from, each after what happened in
        it. That is a hint: ask for the proof before acting. A liar can leave hints out, or show blocks late; so
        whoever guards a group also looks at it, with proof, several times in a challenge period. The iterator goes on
        until it is closed; it outlives an unreachable ledger.

        Raises (when iterated):
            Refused: ``pruned``: no replica keeps the block after `after` any more.

        Args:
            groups: Ids.
            accounts: Addresses.
            after: Height of the last block that was seen; without it, from now on.
            kinds: Of events, to be sent no others; ``block`` has to be among them. By default all.
        """
        reader = EventReader(
            self._replicas, self._final, self.trust, self._stall_ms(), groups=groups, accounts=accounts, kinds=kinds
        )
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
        clock = await self.clock()
        last_chance = time.monotonic() + self._patience_s(transaction, clock)
        while clock <= transaction.valid_until_ms:
            output = await self._bring(transaction, fate)
            if output is not None:
                return output
            if time.monotonic() > last_chance:
                raise LedgerUnreachable(
                    f"the ledger's clock did not reach {transaction.valid_until_ms} in time, and transaction "
                    f"{transaction.id.hex()} is not final. It may still execute: submit the same one again"
                )
            await asyncio.sleep(POLL_MS / 1000)
            clock = await self.clock()
        return await self._settle(transaction)

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

    async def new_command(self, key: SigningKey, data: bytes) -> Transaction:
        """A signed command to the ledger's state machine, valid as a transfer is. Raises as :meth:`head` does."""
        return new_command(self.genesis, key, data, await self.clock())

    def _enough(self) -> int:
        """So many replicas have an honest one among them, if there are so many."""
        return min(self._witnesses, len(self._replicas.all))

    @property
    def _witnesses(self) -> int:
        """F + 1: one of so many is honest."""
        return self.trust.replica_set.faults + 1

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
            proof = decode(Reply(200, item).proof(), OutputProof)
            return (await self._believed(replica, lambda: self.light.output(name, proof))).value

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
        known: dict[Hash, Output] = {}

        async def ask(replica: Replica) -> None:
            reply = await self._post(replica, body, "")
            if reply.status < 400:
                await self._learn(replica, _by_height(transactions, _items(reply, len(transactions))), known)

        try:
            await self._replicas.first(ask, self.limits.submit_hedge_ms)
        except LedgerUnreachable:
            if not known:
                raise
        return known

    async def _learn(self, replica: Replica, claimed: Mapping[int, set[Hash]], known: dict[Hash, Output]) -> None:
        """Add to `known` what this replica says is in these blocks, in the time for one answer to a submission.

        Raises:
            RemoteError: A block is not what was said of it. A liar could have us fetch one for each transaction.
            Unavailable: They did not all come in time.
        """
        limit_ms = self.limits.submit_wait_ms
        try:
            async with asyncio.timeout(limit_ms / 1000):
                for height, names in sorted(claimed.items()):
                    found = {output.transaction_id: output for output in await self._outputs_of(replica, height)}
                    if missing := names - found.keys():
                        raise RemoteError(f"transaction {min(missing).hex()} is not in block {height}, as was said")
                    known.update((name, found[name]) for name in names)
        except TimeoutError as error:
            raise Unavailable(f"{replica.url}: {len(claimed)} blocks did not come within {limit_ms} ms") from error

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
            f"transaction {transaction.id.hex()} is past its time, but of the {len(self._replicas.all)} replicas known "
            f"here fewer than {self._witnesses} say that it did not execute: add URLs, submit it again"
        )

    async def _is_group_absent(self, opening: OpenGroup, transaction: Transaction) -> bool:
        """Whether it is proven, at a clock past the opening's life span, that it made no group."""
        found = await self.group(name_of_group(opening.agreement, transaction.id))
        return found.value is None and found.header.clock > transaction.valid_until_ms

    async def _is_unknown_to_enough(self, transaction: Transaction) -> bool:
        """Whether f+1 replicas, each with a verified clock past the life span, never had the transaction.

        Who keeps only a part of the blocks says so, if it may have been in the others: that counts for nothing.
        """

        async def lacks(replica: Replica) -> bool:
            try:
                if (await self._head_of(replica)).clock <= transaction.valid_until_ms:
                    return False
                return await self._output_of(replica, transaction.id, transaction.valid_until_ms) is None
            except WedgeError:
                return False

        answers = await asyncio.gather(*(lacks(replica) for replica in self._replicas.all))
        return sum(answers) >= self._witnesses

    async def _outputs_of(self, replica: Replica, height: int) -> tuple[Output, ...]:
        reply = await self._ok(replica, f"/blocks/{height}?proof=true")
        proof = decode(reply.proof(), BlockProof)
        return (await self._believed(replica, lambda: self.light.outputs(proof))).value


def _items(reply: Reply, count: int) -> list[dict[str, Any]]:
    items = reply.body.get("items")
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        raise RemoteError(f"the answer to {count} transactions is not a list of {count}")
    return items


def _by_height(transactions: Sequence[Transaction], items: Sequence[Mapping[str, Any]]) -> dict[int, set[Hash]]:
    """Which of these transactions are said to be in which blocks."""
    claimed: dict[int, set[Hash]] = {}
    for transaction, item in zip(transactions, items, strict=True):
        if isinstance(height := item.get("height"), int):
            claimed.setdefault(height, set()).add(transaction.id)
    return claimed


def new_accusation(genesis: Genesis, evidence: Evidence, clock_ms: int) -> Transaction:
    """A transaction that marks the replica which cast both votes; it takes nobody's signature. Valid as a transfer.

    Evidence of an epoch that is over names the replica by its place in the present set: :meth:`Evidence.at`.
    """
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    return Transaction(Accusation(evidence), until, os.urandom(SALT_BYTES))


def new_change(genesis: Genesis, request: ChangeReplicas, clock_ms: int) -> Transaction:
    """A transaction that changes the replica set; it takes no signatures but those in it. Valid as a transfer."""
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    return Transaction(request, until, os.urandom(SALT_BYTES))


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


def new_appointment(genesis: Genesis, key: SigningKey, term: int, head: Hash, clock_ms: int) -> Transaction:
    """A signed appointment of a process for the account of `key`, valid as a transfer is.

    Args:
        genesis: Of the ledger.
        key: The account's.
        term: One more than that of :meth:`LedgerClient.appointment`; 1 if there is none.
        head: Names the process, 32 bytes.
        clock_ms: The ledger clock, verified: :meth:`LedgerClient.clock`.
    """
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    bare = Transaction(Appoint(key.public, term, head), until, os.urandom(SALT_BYTES))
    return msgspec.structs.replace(bare, signatures=(sign_transaction(bare, genesis.chain_id, key),))


def new_command(genesis: Genesis, key: SigningKey, data: bytes, clock_ms: int) -> Transaction:
    """A signed command to the ledger's state machine, valid as a transfer is. Arguments as :func:`new_transfer`."""
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    bare = Transaction(Command(key.public, data), until, os.urandom(SALT_BYTES))
    return msgspec.structs.replace(bare, signatures=(sign_transaction(bare, genesis.chain_id, key),))


def new_registration(genesis: Genesis, key: SigningKey, preimages: Sequence[bytes], clock_ms: int) -> Transaction:
    """A signed registration of preimages, valid as a transfer is (groups.md, rule 21).

    Args:
        genesis: Of the ledger.
        key: Of an account that has money, or is in a group.
        preimages: 1 to 64 of them, 32 bytes each.
        clock_ms: The ledger clock, verified: :meth:`LedgerClient.clock`.
    """
    until = clock_ms + min(TRANSFER_LIFE_MS, genesis.parameters.max_valid_ms)
    bare = Transaction(RegisterPreimages(key.public, tuple(preimages)), until, os.urandom(SALT_BYTES))
    return msgspec.structs.replace(bare, signatures=(sign_transaction(bare, genesis.chain_id, key),))
