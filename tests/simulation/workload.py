"""Clients: they pay, open and end groups, read with proofs, and bring again what they hear nothing of.

A client believes only what proves itself (`layer1.proof`), refuses heads that are old by its clock or below one that
was seen before (as `layer1.reader` does), and asks another replica when one does not answer. All clients of a run
tell each other the newest height that they saw, as wallets that pay each other do.

Source: docs/design/architecture.md, "Believing an answer"; consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec import structs

from layer1 import merkle
from layer1.block import CommittedBlock
from layer1.crypto import Hash, SigningKey
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Body, Certificate
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import account_key
from layer1.ledger.transactions import OpenGroup, Payload, Transaction, Transfer, sign_transaction
from layer1.proof import AccountProof, HeadProof, OutputProof, Trust, check_fresh, verify_account, verify_output
from layer1.replica import events
from tests.layer1.ledger.world import Party, make_party
from tests.simulation.checkers.base import Checker, Read, Write
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.kernel import MS, Action, World
from tests.simulation.ledger import CHALLENGE_MS, PEOPLE
from tests.simulation.replica import Replica

PATIENCE_US = 3_000 * MS
"""How long a client waits for one replica before it asks another."""
TRIES = 30
RETRY_US = 100 * MS
"""After which a client asks another replica than one that starts from a snapshot."""
"""After which a client gives up; never in the liveness phase."""

ELSEWHERE = {"stopping", "catching_up"}
NOT_NOW = {"pool_full", "share_full", *ELSEWHERE}
"""Refusals that say nothing of the transaction: a replica that refuses all that is brought to it is not live."""


@dataclass
class Pending:
    """A transaction whose fate its client does not know."""

    transaction: Transaction
    id: Hash
    client: str
    invoked_us: int
    asked: str = ""
    """Whom it asked last."""
    tries: int = 0


@dataclass
class Index:
    """What one replica calls final, by transaction."""

    blocks: dict[Hash, tuple[CommittedBlock, int]] = field(default_factory=dict)

    def add(self, block: CommittedBlock) -> None:
        for position, output in enumerate(block.outputs):
            self.blocks[output.transaction_id] = (block, position)


class Workload:
    """All clients of a run."""

    def __init__(
        self, world: World, genesis: Genesis, replicas: Sequence[Replica], checkers: Checker, *, pause_us: int
    ) -> None:
        self.world, self.genesis, self.replicas, self.checkers = world, genesis, list(replicas), checkers
        self.pending: dict[Hash, Pending] = {}
        self.height = 0
        """Newest final height that a client has seen with a proof."""
        self.clock_ms = 0
        """Ledger clock of that block."""
        self._chain_id = genesis.chain_id
        self._trust = Trust(genesis)
        """Of all clients."""
        self._random = world.random("workload")
        self._pause_us = pause_us
        self._salt = 0
        self._parties = 0
        self._openings: dict[Hash, tuple[int, Party]] = {}
        self._stopped = False
        self._others: list[Replica] = []
        self._indexes = {replica.name: Index() for replica in replicas}
        for replica in replicas:
            replica.on_final.append(self._on_final)
            replica.on_rejected.append(self._on_rejected)

    def start(self) -> None:
        """Clients begin."""
        for number in range(len(PEOPLE)):
            self._later(partial(self._act, number))

    def stop(self) -> None:
        """Nothing new is submitted from now on."""
        self._stopped = True

    # ------------------------------------------------------------------------------------------------------ submitting

    def sign(self, payload: Payload, *signers: SigningKey, valid_ms: int | None = None) -> Transaction:
        """A transaction with a salt of its own, signed by these."""
        self._salt += 1
        if valid_ms is None:
            valid_ms = self._random.choice((3_000, 30_000, 300_000))
        blank = Transaction(payload, self.clock_ms + valid_ms, self._salt.to_bytes(16, "big"))
        return structs.replace(
            blank, signatures=tuple(sign_transaction(blank, self._chain_id, signer) for signer in signers)
        )

    def submit(self, client: str, transaction: Transaction, replica: Replica | None = None) -> Pending:
        """Bring it to a replica, and go on until its fate is known."""
        pending = Pending(transaction, transaction.id, client, self.world.now_us)
        self.pending[pending.id] = pending
        self.checkers.submitted(transaction)
        self.world.stats["submitted"] += 1
        self.world.note(client, "submits", pending.id)
        self._bring(pending, replica or self._random.choice(self.replicas))
        return pending

    def bring_again(self, replicas: Sequence[Replica]) -> None:
        """All transactions of unknown fate go to one of these replicas; if it starts from a snapshot, to another."""
        self._others = list(replicas)
        for pending in list(self.pending.values()):
            pending.tries = 0
            self.checkers.promised(pending.transaction)
            self._bring(pending, self._random.choice(replicas))

    def _bring(self, pending: Pending, replica: Replica) -> None:
        pending.asked, pending.tries = replica.name, pending.tries + 1
        event = events.Submit([(pending.id, pending.transaction)], pending.client)
        self._travel(lambda: replica.submit(event, partial(self._on_submitted, pending, replica)))
        if pending.tries < TRIES:
            self.world.after(PATIENCE_US, partial(self._ask_again, pending, pending.tries))

    def _on_submitted(self, pending: Pending, replica: Replica, refusal: Refused | None) -> None:
        if refusal is not None and refusal.code not in NOT_NOW:
            self.checkers.excused(pending.id)
        elif refusal is not None and refusal.code in ELSEWHERE and self._stopped:
            self.world.after(RETRY_US, partial(self._bring_elsewhere, pending, replica))
        found = self._indexes[replica.name].blocks.get(pending.id)
        if found is not None:
            self._prove(pending, replica, *found)

    def _bring_elsewhere(self, pending: Pending, replica: Replica) -> None:
        others = [other for other in self._others if other is not replica and other.is_running]
        if pending.id in self.pending and others:
            self._bring(pending, self._random.choice(others))

    def _on_rejected(self, transaction_id: Hash, _refusal: Refused) -> None:
        """Taken in, and then found bad: a dispute that the ledger would refuse."""
        self.checkers.excused(transaction_id)

    def _ask_again(self, pending: Pending, tries: int) -> None:
        if pending.id in self.pending and pending.tries == tries and not self._stopped:
            self._bring(pending, self._random.choice(self.replicas))

    def _on_final(self, replica: Replica, block: CommittedBlock) -> None:
        self._indexes[replica.name].add(block)
        for position, output in enumerate(block.outputs):
            pending = self.pending.get(output.transaction_id)
            if pending is not None and pending.asked == replica.name:
                self._prove(pending, replica, block, position)

    def _prove(self, pending: Pending, replica: Replica, block: CommittedBlock, position: int) -> None:
        leaves = [output.hash for output in block.outputs]
        head = HeadProof(block.header, block.path, block.finalization)
        answer = OutputProof(head, block.outputs[position], merkle.prove_index(leaves, position))
        self._travel(partial(self._on_proof, pending, answer, replica))

    def _on_proof(self, pending: Pending, answer: OutputProof, replica: Replica) -> None:
        if pending.id not in self.pending:
            return
        self._follow_sets(answer.head, replica)
        try:
            verified = verify_output(self._trust, pending.id, answer)
        except RemoteError as error:
            self.world.note(pending.client, f"does not believe: {error}")
            return
        del self.pending[pending.id]
        if pending.id in self._openings and verified.value.group_id is not None:
            number, party = self._openings.pop(pending.id)
            party.id = verified.value.group_id
            self._later(partial(self._end_group, number, party))
        self._saw(verified.header.height, verified.header.clock)
        self.world.stats["answered"] += 1
        self.world.stats[f"output {verified.value.code}"] += 1
        self.checkers.answered(
            Write(
                pending.client,
                pending.id,
                pending.invoked_us,
                self.world.now_us,
                verified.value.code,
                verified.header,
            )
        )

    def _follow_sets(self, head: HeadProof, replica: Replica) -> None:
        """Ask whoever answers for what proves the sets until then; one that does not run has no answer."""
        if head.header.epoch < len(self._trust.sets) or not replica.is_running:
            return
        for handover in replica.core.application.trust.handovers[len(self._trust.handovers) :]:
            try:
                self._trust.follow(handover)
            except RemoteError as error:
                self.world.note("clients", f"do not believe: {error}")
                return
            self.world.stats["handovers followed"] += 1

    def _saw(self, height: int, clock_ms: int) -> None:
        self.height, self.clock_ms = max(self.height, height), max(self.clock_ms, clock_ms)

    # ---------------------------------------------------------------------------------------------------------- acting

    def _act(self, number: int) -> None:
        if self._stopped:
            return
        chance = self._random.random()
        if chance < 0.6:
            self._pay(number)
        elif chance < 0.85:
            self._read(number)
        elif chance < 0.93:
            self._begin_group(number)
        else:
            self._forge(number)
        self._later(partial(self._act, number))

    def _pay(self, number: int, replica: Replica | None = None, amount: int | None = None) -> None:
        sender, recipient = PEOPLE[number], PEOPLE[(number + self._random.choice((1, 1, 1, 2, 2, 3, 0))) % len(PEOPLE)]
        amount = amount or self._random.choice((1, 1, 10, 100, 5_000))
        transaction = self.sign(Transfer(sender.public, recipient.public, amount), sender)
        pending = self.submit(f"client{number}", transaction, replica)
        if self._random.random() < 0.2:  # impatient: the same to somebody else at once
            self._bring(pending, self._random.choice(self.replicas))

    def probe(self, replicas: Sequence[Replica]) -> None:
        """Each client pays a little, at one of these replicas."""
        for number in range(len(PEOPLE)):
            self._pay(number, self._random.choice(replicas), 1)

    def _forge(self, number: int) -> None:
        """A payment from somebody else's account, with a signature of one's own: nobody may execute it."""
        victim = PEOPLE[(number + 1) % len(PEOPLE)]
        payload = Transfer(victim.public, PEOPLE[number].public, 1)
        self._salt += 1
        blank = Transaction(payload, self.clock_ms + 60_000, self._salt.to_bytes(16, "big"))
        forged = structs.replace(blank, signatures=(sign_transaction(blank, self._chain_id, PEOPLE[number]),))
        replica = self._random.choice(self.replicas)
        self._travel(lambda: replica.submit(events.Submit([(forged.id, forged)], "forger"), lambda _refusal: None))

    # ---------------------------------------------------------------------------------------------------------- groups

    def _begin_group(self, number: int) -> None:
        self._parties += 1
        people = (PEOPLE[number], self._random.choice([other for other in PEOPLE if other is not PEOPLE[number]]))
        party = make_party(
            self._chain_id,
            people,
            deposit=self._random.randint(1, 50),
            bond=self._random.randint(0, 10),
            name=f"group {self._parties}",
            challenge_period_ms=CHALLENGE_MS,
        )
        opening = self.sign(OpenGroup(party.agreement), *people, valid_ms=60_000)
        self.submit(f"client{number}", opening)
        self._openings[opening.id] = (number, party)

    def _end_group(self, number: int, party: Party) -> None:
        """By agreement, or by a wedge that a newer report answers."""
        if self._stopped:
            return
        client = f"client{number}"
        total = party.agreement.funding_units
        if self._random.random() < 0.3:
            self.submit(client, self.sign(party.final(total, 0)))
            return
        old, new = (party.state(version, total - version, version) for version in (1, 2))
        self.submit(client, self.sign(party.wedge(0, self._random.choice((old, new)))))
        self.world.after(self._random.randint(0, CHALLENGE_MS) * MS, lambda: self._report(client, party, new))

    def _report(self, client: str, party: Party, state: tuple[Certificate, Body]) -> None:
        if not self._stopped:
            self.submit(client, self.sign(party.report(state)))

    # --------------------------------------------------------------------------------------------------------- reading

    def _read(self, number: int) -> None:
        """Read an account at one replica after the other until one answer is good."""
        address = self._random.choice(PEOPLE)
        self._ask_account(f"client{number}", address, self.world.now_us, 5)

    def _ask_account(self, client: str, owner: SigningKey, invoked_us: int, tries: int) -> None:
        replica = self._random.choice(self.replicas)
        answered = [False]

        def serve() -> None:
            if replica.is_running and not replica.paused:
                floor = replica.core.application.floor
                head = HeadProof(floor.header, floor.path, floor.finalization)
                proof = floor.state.prove(account_key(owner.public))
                answer = AccountProof(head, floor.state.account(owner.public), proof)
                self._travel(lambda: hear(answer))

        def hear(answer: AccountProof) -> None:
            self._follow_sets(answer.head, replica)
            answered[0] = self._on_account(client, owner, invoked_us, answer)

        def give_up() -> None:
            if not answered[0] and tries > 1 and not self._stopped:
                self._ask_account(client, owner, invoked_us, tries - 1)

        self._travel(serve)
        self.world.after(PATIENCE_US // 3, give_up)

    def _on_account(self, client: str, owner: SigningKey, invoked_us: int, answer: AccountProof) -> bool:
        try:
            verified = verify_account(self._trust, owner.public, answer)
            check_fresh(verified.header, START_WALL_MS + self.world.now_ms, self.genesis.parameters)
        except RemoteError as error:
            self.world.note(client, f"does not believe: {error}")
            return False
        if verified.header.height < self.height:
            self.world.stats["stale reads refused"] += 1
            return False
        self._saw(verified.header.height, verified.header.clock)
        self.world.stats["reads"] += 1
        balance = verified.value.balance
        self.checkers.answered(Read(client, owner.public, invoked_us, self.world.now_us, balance, verified.header))
        return True

    # ----------------------------------------------------------------------------------------------------------- small

    def _travel(self, then: Action) -> None:
        """One way between a client and a replica."""
        self.world.after(self._random.randint(500, 20 * MS), then)

    def _later(self, then: Action) -> None:
        self.world.after(int(self._random.expovariate(1.0) * self._pause_us), then)
