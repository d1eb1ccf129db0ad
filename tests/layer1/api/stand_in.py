"""A ledger in one hand: real state, real execution, real certificates, no consensus; and replicas that serve it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from layer1 import merkle
from layer1.api.backend import Head, Located, Series, Subscription
from layer1.block import Batch, CommittedBlock, batch_digest
from layer1.codec import encode
from layer1.consensus.certificates import Signer, finalization
from layer1.consensus.evidence import Evidence, pair
from layer1.crypto import Hash, Kind, PublicKey, SigningKey
from layer1.errors import Refused
from layer1.header import Header
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.agreements import (
    Final,
    GroupAgreement,
    Member,
    Successor,
    initial_body,
    initial_certificate,
    sign_claim,
    sign_final,
    sign_successor,
)
from layer1.ledger.execute import Execution, execute, execute_filler
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters, genesis_header
from layer1.ledger.records import REPLICA_SET_KEY
from layer1.ledger.replicas import ChangeReplicas, ReplicaSet, SetChange, sign_change
from layer1.ledger.state import State
from layer1.ledger.transactions import (
    Accusation,
    ChangeGroup,
    CloseGroup,
    OpenGroup,
    Payload,
    Transaction,
    Transfer,
    Wedge,
    sign_transaction,
)
from layer1.proof import Handover, HeadProof, Trust, trusted_config
from layer1.statemachine import StateMachine
from layer1.storage.store import Store

REPLICAS = [SigningKey(bytes([100 + i]) * 32) for i in range(4)]
ALICE, BOB, CAROL, DAVE = (SigningKey(bytes([i]) * 32) for i in (1, 2, 3, 4))
ALICE_KEY, BOB_KEY = (SigningKey(bytes([i]) * 32) for i in (11, 12))
"""Group keys."""


def make_genesis(wall_time: int | None = None, name: str = "test") -> Genesis:
    """Four replicas; Alice has 1,000,000, Bob 500,000."""
    return Genesis(
        name=name,
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=(Allocation(ALICE.public, 1_000_000), Allocation(BOB.public, 500_000)),
        replicas=tuple(key.public for key in REPLICAS),
        fault_model="byzantine",
        wall_time=wall_time if wall_time is not None else time.time_ns() // 1_000_000,
        parameters=Parameters(min_challenge_ms=1_000),
    )


def signed(
    genesis: Genesis, payload: Payload, keys: Sequence[SigningKey], valid_until_ms: int, salt: int
) -> Transaction:
    """A transaction with all its signatures."""
    bare = Transaction(payload, valid_until_ms, salt.to_bytes(16, "big"))
    signatures = tuple(sign_transaction(bare, genesis.chain_id, key) for key in keys)
    return Transaction(payload, valid_until_ms, bare.salt, signatures)


class Chain:
    """One chain of final blocks and its newest state."""

    def __init__(self, genesis: Genesis, machine: StateMachine | None = None) -> None:
        self.genesis = genesis
        self.state = State.genesis(genesis, machine)
        self.headers: list[Header] = [genesis_header(genesis)]
        self.blocks: list[CommittedBlock] = []
        self.salt = 0
        self.keys = list(REPLICAS)
        """Of every replica that ever was, by number."""
        self.trust = Trust(genesis)
        self.step = 1
        """Views from a block to the next."""
        self.signers = self._signers()

    def _signers(self) -> list[Signer]:
        """The members of the newest set, by position."""
        members = self.state.replica_set
        return [self._signer(members, i) for i in range(len(members.seats))]

    @property
    def tip(self) -> Header:
        return self.headers[-1]

    def commit(self, transactions: Sequence[Transaction] = (), wall_time: int | None = None) -> CommittedBlock:
        """Make the next block final."""
        wall = max(wall_time if wall_time is not None else time.time_ns() // 1_000_000, self.tip.wall_time)
        members, signers = self.state.replica_set, self.signers
        done = execute(self.state, wall, transactions)
        done.state.commit()
        self.state = done.state
        batch = encode(Batch(0, tuple(transactions)))
        header = self.header(members, done, wall, merkle.list_root([batch_digest(batch)]))
        votes = [signer.finalize(header.view, header.id) for signer in signers]
        block = CommittedBlock(
            header,
            finalization(votes, members.quorum),
            (),
            (batch,),
            done.transactions,
            done.outputs,
            done.events,
        )
        self.headers.append(header)
        self.blocks.append(block)
        if self.state.replica_set.epoch > members.epoch:
            self.signers = self._signers()
            proof = self.state.prove(REPLICA_SET_KEY)
            self.trust.follow(Handover(self.head, self.state.replica_set, proof))
        return block

    def header(self, members: ReplicaSet, done: Execution, wall_time: int, batches_root: Hash) -> Header:
        """Of a block on the tip."""
        return Header(
            epoch=members.epoch,
            view=self.tip.view + self.step,
            height=self.tip.height + 1,
            parent=self.tip.id,
            clock=done.clock,
            wall_time=wall_time,
            batches_root=batches_root,
            transactions_root=done.transactions_root,
            state_root=done.state.root,
            outputs_root=done.outputs_root,
            replica_set=members.hash,
        )

    @property
    def head(self) -> HeadProof:
        """The tip, with what makes it final."""
        return HeadProof(self.tip, (), self.blocks[-1].finalization if self.blocks else None)

    def filler(self) -> HeadProof:
        """A block that the last epoch built on its boundary, the tip; final, and none of the chain."""
        (*_, handover) = self.trust.handovers
        members = self.trust.set_of(handover.head.header.epoch)
        done = execute_filler(self.state, self.tip.wall_time + 1)
        header = self.header(members, done, self.tip.wall_time + 1, merkle.list_root([]))
        votes = [self._signer(members, i).finalize(header.view, header.id) for i in range(len(members.seats))]
        return HeadProof(header, (), finalization(votes, members.quorum))

    def _signer(self, members: ReplicaSet, position: int) -> Signer:
        config = trusted_config(self.genesis, members)
        return Signer(config, self.keys[members.numbers[position]], position)

    def change(self, add: int = 0, remove: Sequence[int] = ()) -> Transaction:
        """A transaction that changes the replica set, signed by all members; new ones get keys here."""
        current = self.state.replica_set
        new = [SigningKey(bytes([100 + len(self.keys) + i]) * 32) for i in range(add)]
        self.keys += new
        agreed = SetChange(current.epoch, tuple(key.public for key in new), tuple(remove), self.state.clock + 300_000)
        chain_id = self.genesis.chain_id
        approvals = tuple((number, sign_change(agreed, chain_id, self.keys[number])) for number in current.numbers)
        acceptances = tuple(sign_change(agreed, chain_id, key) for key in new)
        self.salt += 1
        payload = ChangeReplicas(agreed, approvals, acceptances)
        return signed(self.genesis, payload, [], self.state.clock + 300_000, self.salt)

    def transfer(self, amount: int = 1, sender: SigningKey = ALICE, recipient: PublicKey = BOB.public) -> Transaction:
        """A fresh signed transfer."""
        self.salt += 1
        return signed(
            self.genesis, Transfer(sender.public, recipient, amount), [sender], self.state.clock + 300_000, self.salt
        )

    def agreement(self, salt: int = 0) -> GroupAgreement:
        """A channel between Alice and Bob."""
        members = (
            Member(_group_key(ALICE_KEY, salt).public, ALICE.public, ALICE.public, 100, 10),
            Member(_group_key(BOB_KEY, salt).public, BOB.public, CAROL.public, 50, 10),
        )
        before = self.state.clock + 300_000
        return GroupAgreement(self.genesis.chain_id, members, 1_000, "payments/2", before, salt.to_bytes(16, "big"))

    def opening(self, salt: int = 0) -> Transaction:
        """The opening of that channel."""
        self.salt += 1
        payload = OpenGroup(self.agreement(salt))
        return signed(self.genesis, payload, [ALICE, BOB], self.state.clock + 300_000, self.salt)

    def evidence(self, replica: int = 1, view: int = 5) -> Evidence:
        """The replica notarized two blocks in one view."""
        signer = self.signers[replica]
        found = pair(signer.notarize(view, bytes(32)), signer.notarize(view, bytes([1] * 32)))
        assert found is not None
        return found

    def accusation(self, replica: int = 1) -> Transaction:
        """A transaction that brings this evidence."""
        self.salt += 1
        payload = Accusation(self.evidence(replica))
        return signed(self.genesis, payload, [], self.state.clock + 300_000, self.salt)

    def change_group(self, group_id: Hash) -> Transaction:
        """The channel's members agree that it will pay Dave what is Bob's, who signs with Dave's key from then on."""
        group = self.state.group(group_id)
        assert group is not None
        alice, bob = group.agreement.members
        members = (alice, replace(bob, key=DAVE.public, payout=DAVE.public))
        agreement = replace(group.agreement, members=members, open_before_ms=self.state.clock + 60_000)
        base = group.certificate.header.hash
        successor = Successor(self.genesis.chain_id, group_id, group.epoch, base, 0, agreement, b"")
        keys = (ALICE_KEY, BOB_KEY, DAVE)
        first, second, joining = (sign_successor(key, Kind.RECONFIGURE, successor) for key in keys)
        self.salt += 1
        payload = ChangeGroup(successor, (first, second), (joining,))
        return signed(self.genesis, payload, [], self.state.clock + 60_000, self.salt)

    def final(self, group_id: Hash) -> Transaction:
        """The channel's members, of whom Dave is the second by now, end it as it is."""
        group = self.state.group(group_id)
        assert group is not None and group.body is not None
        final = Final(group_id, group.epoch, group.certificate.header.hash, group.version, group.body.balances)
        self.salt += 1
        signatures = tuple(sign_final(key, self.genesis.chain_id, final) for key in (ALICE_KEY, DAVE))
        return signed(self.genesis, CloseGroup(final, signatures), [], self.state.clock + 60_000, self.salt)

    def wedge(self, group_id: Hash, salt: int = 0) -> Transaction:
        """Alice wedges the channel at version 0."""
        group = self.state.group(group_id)
        assert group is not None
        certificate = initial_certificate(group.agreement, group_id)
        claim = sign_claim(_group_key(ALICE_KEY, salt), 0, 0, certificate.header)
        self.salt += 1
        payload = Wedge(certificate, initial_body(group.agreement), claim)
        return signed(self.genesis, payload, [], self.state.clock + 300_000, self.salt)


def _group_key(key: SigningKey, salt: int) -> SigningKey:
    return key if salt == 0 else SigningKey(bytes([key.seed()[0] + 40, salt % 256, salt // 256]) + key.seed()[3:])


class StandIn:
    """A replica for the API: it orders what it takes at once, or when told to."""

    def __init__(self, chain: Chain, directory: Path, index: int = 0) -> None:
        self.chain = chain
        self.genesis = chain.genesis
        self.index = index
        self.store = Store.open(directory / f"replica-{index}.db", chain.genesis.chain_id)
        self.store.append(chain.blocks)
        self.pool: list[Transaction] = []
        self.orders_at_once = True
        self.stores = True
        self.full = False
        self.sources: list[str] = []
        """Of what was brought."""
        self.final: dict[Hash, Located] = {}
        self.peers: list[StandIn] = [self]
        self.caught: list[Evidence] = []
        self._news = asyncio.Event()

    def close(self) -> None:
        self.store.close()

    def head(self) -> Head:
        chain = self.chain
        if not chain.blocks:
            return Head(chain.tip, None, (), chain.state)
        return Head(chain.tip, chain.blocks[-1].finalization, (), chain.state)

    def status(self) -> Mapping[str, int | str | bool | None]:
        return {"view": self.chain.tip.view, "leader": 0, "mempool": len(self.pool), "catching_up": False, "role": "x"}

    def series(self) -> Sequence[Series]:
        return (Series("peer_connected", "Whether there is a link.", ("peer",), {("1",): 1.0}, counts=False),)

    def endpoints(self) -> Sequence[Mapping[str, str | int | bool | None]]:
        return [
            {"index": i, "key": key.hex(), "api": None, "connected": True}
            for i, key in enumerate(self.chain.state.replica_set.keys)
        ]

    def evidence(self) -> Sequence[Evidence]:
        return self.caught

    def handovers(self) -> Sequence[Handover]:
        return self.chain.trust.handovers

    def submit(self, transactions: Sequence[Transaction], source: str = "") -> list[Hash]:
        self.sources.append(source)
        if self.full:
            raise Refused("pool_full", "the mempool holds 0 transactions, at most 0; try again in a second")
        for transaction in transactions:
            admit(self.chain.state, transaction)
            verify_transaction(transaction, self.genesis.chain_id)
        self.pool += transactions
        if self.orders_at_once:
            asyncio.get_running_loop().call_soon(self.order)
        return [transaction.id for transaction in transactions]

    def order(self, wall_time: int | None = None) -> CommittedBlock:
        """Make everything in the pool final, everywhere."""
        block = self.chain.commit(self.pool, wall_time)
        self.pool = []
        for replica in self.peers:
            replica.learn(block)
        return block

    def learn(self, block: CommittedBlock) -> None:
        if self.stores:
            self.catch_up()
        for index, output in enumerate(block.outputs):
            self.final[output.transaction_id] = Located(block.header.height, index, output)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def catch_up(self) -> None:
        self.store.append(self.chain.blocks)

    async def wait_final(self, ids: Sequence[Hash], timeout_ms: int) -> dict[Hash, Located]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while any(name not in self.final for name in ids):
                    await self._news.wait()
        except TimeoutError:
            pass
        return {name: self.final[name] for name in ids if name in self.final}

    def subscribe(self) -> Subscription:
        raise NotImplementedError("the API follows the store")
