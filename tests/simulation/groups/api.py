"""The HTTP API of a simulated replica, as far as wallets use it: paths in, JSON-like answers with proofs out.

A replica answers while it runs; when it is dead the connection is refused, when it pauses there is no answer. A
Byzantine replica is silent, repeats what it answered before, or garbles it, now and then: no client may believe that.

Source: layer1/api; docs/design/architecture.md, "Believing an answer".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from layer1 import merkle
from layer1.block import CommittedBlock
from layer1.codec import decode, encode
from layer1.crypto import Hash, parse_address
from layer1.errors import Refused
from layer1.failover import Reply
from layer1.ledger.records import account_key, group_key
from layer1.ledger.transactions import Transaction
from layer1.proof import AccountProof, GroupProof, GroupsProof, HeadProof, OutputProof
from layer1.replica import events
from tests.simulation.checkers.base import Checker
from tests.simulation.kernel import MS, World
from tests.simulation.replica import Replica

Answer = Callable[[Reply], None]


def _reply(status: int, **body: Any) -> Reply:
    return Reply(status, body)


class Api:
    """Answers for one replica."""

    def __init__(self, world: World, replica: Replica, checkers: Checker) -> None:
        self.world, self.replica, self.checkers = world, replica, checkers
        self.url = f"http://{replica.name}"
        self._random = world.random(f"api {replica.name}")
        self._found: dict[Hash, tuple[CommittedBlock, int]] = {}
        self._waiting: dict[Hash, list[Answer]] = {}
        self._old: dict[str, Reply] = {}
        """By path, what a Byzantine replica answered first."""
        replica.on_final.append(self._on_final)
        replica.on_rejected.append(self._on_rejected)

    @property
    def refuses(self) -> bool:
        """Whether a connection to it is refused."""
        return not self.replica.is_running

    def serve(self, path: str, body: bytes, answer: Answer) -> None:
        """Answer a GET, or a POST if it has a body; perhaps later, perhaps never."""
        if not self.replica.is_running or self.replica.paused:
            return
        mood = 1.0 if self.replica.is_honest else self._random.random()
        if mood < 0.2:
            return
        if body:
            self._submit(body, answer)
            return
        reply = self._read(path)
        if mood < 0.4:
            reply = self._old.setdefault(path, reply)
        elif mood < 0.5 and "proof" in reply.body:
            proof = bytearray(bytes.fromhex(reply.body["proof"]))
            proof[self._random.randrange(len(proof))] ^= 1 << self._random.randrange(8)
            reply = _reply(reply.status, **{**reply.body, "proof": proof.hex()})
        answer(reply)

    # --------------------------------------------------------------------------------------------------------- reading

    def _read(self, path: str) -> Reply:
        kind, _, name = path.partition("?")[0].strip("/").partition("/")
        match kind:
            case "status":
                return self._proven(200, self._head())
            case "accounts":
                return self._account(name)
            case "groups" if name == "proofs":
                return self._groups(path.partition("?")[2])
            case "groups":
                return self._group(bytes.fromhex(name))
            case "transactions":
                return self._output(bytes.fromhex(name))
            case "handovers":
                return self._handovers(int(path.rpartition("=")[2]))
            case _:
                raise AssertionError(f"wallets do not ask for {path}")

    def _head(self) -> HeadProof:
        floor = self.replica.core.application.floor
        return HeadProof(floor.header, (), floor.finalization)

    def _handovers(self, first: int) -> Reply:
        """All of them: a wallet asks when an answer, true or garbled, is of an epoch that it does not know."""
        known = self.replica.core.application.trust.handovers[first:]
        return _reply(200, items=[{"encoded": encode(handover).hex()} for handover in known], next=None)

    def _account(self, name: str) -> Reply:
        address, state = parse_address(name), self.replica.core.application.floor.state
        answer = AccountProof(self._head(), state.account(address), state.prove(account_key(address)))
        return self._proven(200, answer)

    def _group(self, group_id: Hash) -> Reply:
        state = self.replica.core.application.floor.state
        group = state.group(group_id)
        return self._proven(200 if group else 404, GroupProof(self._head(), group, state.prove(group_key(group_id))))

    def _groups(self, query: str) -> Reply:
        state = self.replica.core.application.floor.state
        ids = [bytes.fromhex(item.partition("=")[2]) for item in query.split("&")]
        proofs = tuple(state.prove(group_key(group_id)) for group_id in ids)
        return self._proven(200, GroupsProof(self._head(), tuple(map(state.group, ids)), proofs))

    def _output(self, name: Hash) -> Reply:
        found = self._found.get(name)
        if found is None:
            return _reply(404, code="unknown_transaction", detail="not final here")
        return self._proven(200, self._output_proof(*found))

    @staticmethod
    def _output_proof(block: CommittedBlock, position: int) -> OutputProof:
        leaves = [output.hash for output in block.outputs]
        head = HeadProof(block.header, block.path, block.finalization)
        return OutputProof(head, block.outputs[position], merkle.prove_index(leaves, position))

    @staticmethod
    def _proven(status: int, proof: object) -> Reply:
        return _reply(status, proof=encode(proof).hex())

    # ------------------------------------------------------------------------------------------------------ submitting

    def _submit(self, body: bytes, answer: Answer) -> None:
        (data,) = msgspec.msgpack.decode(body, type=list[bytes])
        transaction = decode(data, Transaction)
        self.checkers.submitted(transaction)
        event = events.Submit([(transaction.id, transaction)], "wallet")
        self.replica.submit(event, partial(self._on_submitted, transaction, answer))

    def _on_submitted(self, transaction: Transaction, answer: Answer, refusal: Refused | None) -> None:
        name = transaction.id
        if refusal is not None and refusal.code != "already_executed":
            answer(_reply(422, code=refusal.code, detail=refusal.message))
        elif name in self._found:
            self._final(name, answer)
        elif refusal is not None:
            answer(_reply(409, code=refusal.code, detail=refusal.message))
        else:
            self._waiting.setdefault(name, []).append(answer)
            self.world.after(5_000 * MS, partial(self._give_up, name, answer))

    def _final(self, name: Hash, answer: Answer) -> None:
        proof = encode(self._output_proof(*self._found[name])).hex()
        answer(_reply(200, items=[{"status": "final", "proof": proof}]))

    def _give_up(self, name: Hash, answer: Answer) -> None:
        if answer in self._waiting.get(name, ()):
            self._waiting[name].remove(answer)
            answer(_reply(200, items=[{"status": "pending"}]))

    def _on_final(self, _replica: Replica, block: CommittedBlock) -> None:
        for position, output in enumerate(block.outputs):
            name = output.transaction_id
            self._found[name] = (block, position)
            for answer in self._waiting.pop(name, ()):
                self._final(name, answer)

    def _on_rejected(self, name: Hash, refusal: Refused) -> None:
        for answer in self._waiting.pop(name, ()):
            answer(_reply(422, code=refusal.code, detail=refusal.message))
