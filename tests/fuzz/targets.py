"""What is fuzzed: every decoder, with what the product does next with the value, and the errors that it may raise."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import structs

from layer1 import config as replica_config
from layer1 import crypto, failover, framing, handshake, proof, replica_client
from layer1.api.event_views import EVENTS
from layer1.api.limits import ApiLimits
from layer1.api.resources import transactions as api_transactions
from layer1.api.views import GroupPage, Submission, TransactionPage, payload_view
from layer1.attack import AttackProof, verify_attack
from layer1.block import Batch
from layer1.codec import decode, encode
from layer1.consensus import evidence as consensus_evidence
from layer1.consensus import records as consensus_records
from layer1.consensus.evidence import Evidence
from layer1.consensus.messages import Finalization
from layer1.console import get_json
from layer1.errors import LocalError, Refused, RemoteError, Untimely
from layer1.eventstream import EventReader
from layer1.handshake import Challenge, ClientProof, Refusal, ServerProof, Session
from layer1.header import Header
from layer1.ledger import genesis as ledger_genesis
from layer1.ledger import image
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.agreements import Body, GroupAgreement, GroupHeader, Lock, locked_units
from layer1.ledger.events import Event
from layer1.ledger.genesis import Genesis
from layer1.ledger.state import State
from layer1.ledger.transactions import Output, Transaction
from layer1.light import LightClient, Saved
from layer1.operating import proposals
from layer1.proof import (
    AccountProof,
    AppointmentProof,
    BlockProof,
    GroupProof,
    GroupsProof,
    Handover,
    HeadProof,
    MarksProof,
    OutputProof,
    RegistrationProof,
    Trust,
    ValueProof,
)
from layer1.reader import listed
from layer1.replica import checkpoints, records
from layer1.replica.batches import BatchStore
from layer1.replica.messages import Greeting, LinkMessage, Standing
from layer1.replica.numbers import Numbers
from layer1.replica.peers import PeerLinks
from layer1.replica.rejoin import Rejoining
from layer1.sse import EventParser, RawEvent
from layer2 import chain, tower, witness
from layer2 import messages as layer2_messages
from layer2 import records as layer2_records
from layer2.messages import Command, Message, Offer
from layer2.opening import OpeningPolicy, answer_offer, opening_of
from layer2.payments import Locks, PaymentCommand, Payments
from layer2.promises import BrokenPromise, TowerReceipt, check_proof
from layer2.sealing import _NONCE, _cipher, _filled, open_body
from tests.fuzz import generate
from tests.layer1.replica.network import ALICE, BOB, GENESIS, KEYS, transfer
from tests.wallet.invoices import samples
from wallet import amounts, book, contacts, headship, keystore, life, period, server_history
from wallet.api import client as api_client
from wallet.api import handlers as api_handlers
from wallet.api.verbs import VERBS
from wallet.forwarding.events import Record
from wallet.home import Home
from wallet.invoices import receipt
from wallet.invoices.bech32m import encode_text
from wallet.invoices.invoice import MAX_TEXT, PREFIX, Invoice, format_invoice, parse_invoice
from wallet.invoices.records import Gift, Issued
from wallet.onion import failure
from wallet.paying.records import Payment
from wallet.requests import Show, WalletView
from wallet.routing.gossip import Gossip, Spreading
from wallet.routing.graph import ChannelGraph
from wallet.witness.desk import DeskRecord

Seeds = Callable[[random.Random], bytes]
CODEC = (RemoteError,)


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from outside."""

    name: str
    read: Callable[[bytes], object]
    """What becomes of the bytes. A value of the codec must be the only one with this encoding."""
    errors: tuple[type[Exception], ...]
    """What it may raise; anything else is a finding."""
    seeds: Seeds
    """Makes an input of the right form."""
    covers: Sequence[str] = field(default=())
    """Places that this one stands for: see :mod:`tests.fuzz.places`."""


def _codec(name: str, kind: Any, *covers: str, then: Callable[[Any], object] | None = None, **options: Any) -> Target:
    """A decoder of the one encoding, and what is done with its values."""

    def read(data: bytes) -> object:
        found = decode(data, kind)
        assert encode(found) == data, "there is another encoding of the same value"
        return then(found) if then is not None else None

    errors = (*CODEC, *options.pop("errors", ()))
    return Target(name, read, errors, options.pop("seeds", partial(generate.encoded, kind)), covers)


def _text(
    name: str, read: Callable[[str], object], *samples: str, errors: Any = (Refused,), covers: Any = ()
) -> Target:
    """A reader of text, given what is not UTF-8 as other text."""

    def take(data: bytes) -> object:
        return read(data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode())

    return Target(name, take, errors, lambda rng: rng.choice(samples).encode(), covers)


def _json(kind: Any) -> Seeds:
    return lambda rng: msgspec.json.encode(generate.value(kind, rng))


# ------------------------------------------------------------------------------------------------- what comes after


@cache
def _state() -> State:
    return State.genesis(GENESIS)


def _use_transaction(transaction: Transaction) -> None:
    payload_view(transaction.payload)
    admit(_state(), transaction)
    verify_transaction(transaction, GENESIS.chain_id)


def _use_batch(data: bytes) -> None:
    held = BatchStore(GENESIS.parameters).add(data, 1, 0, wanted=True)
    assert held is not None
    assert held.encoded == data


def _use_head(data: bytes) -> None:
    checkpoints.load(GENESIS, iter([data]))


def _report(found: LinkMessage) -> None:
    if isinstance(found, Standing):
        Rejoining(GENESIS, GENESIS.replicas[0]).hear(1, found)


def _use_pieces(data: bytes) -> None:
    image.collect([data])


def _handshake(kind: Any) -> Callable[[bytes], None]:
    session, key = Session(GENESIS.chain_id, bytes(32), bytes(32)), KEYS[0]
    client = session.client_proof(KEYS[1], key.public, bytes(32), b"")

    def read(data: bytes) -> None:
        if kind is Challenge:
            handshake.read_challenge(data)
            return
        found = handshake.read(data, kind)
        if isinstance(found, ClientProof):
            session.check_client(found, key.public)
        else:
            session.check_server(found, client)

    return read


def _frame(data: bytes) -> None:
    inbox = framing.Inbox(10_000)
    for _ in range(3):
        inbox.put_frame(data)
    assert sum(map(len, inbox.messages)) + inbox.size_bytes <= 3 * len(data)


def _frames(rng: random.Random) -> bytes:
    outbox = framing.Outbox()
    for _ in range(rng.randrange(1, 5)):
        outbox.put(rng.randbytes(rng.choice((0, 1, 300, 20_000))))
    return outbox.take_frame()


def _greet(data: bytes) -> None:
    peers = object.__new__(PeerLinks)
    peers._key = KEYS[0]
    peers.numbers = Numbers(lambda: [GENESIS.replica_set], list)
    peers._peer_of(KEYS[1].public, data)


def _list_groups(data: bytes) -> None:
    listed(failover._parse(data, "url"), "5-1")


def _hear_gossip(message: Gossip) -> None:
    """Of a neighbour that was asked for everything."""
    core = Spreading(ChannelGraph(GENESIS.chain_id))
    core.connect(BOB.public, 0)
    core.ask(BOB.public)
    core.receive(BOB.public, message, 1)


def _use_message(message: Message) -> None:
    if isinstance(message, Offer):
        answer_offer(
            message,
            OpeningPolicy(10**6, 10**6),
            chain_id=GENESIS.chain_id,
            clock_ms=0,
            key=BOB.public,
            funding=BOB,
            payout=BOB.public,
        )
        opening_of(message, message.proposer)


def _command(data: bytes) -> None:
    """Beside a lock in each direction."""
    machine = Payments()
    locks = tuple(Lock(i + 1, i, 1 - i, 50, bytes(32), 1) for i in (0, 1))
    balances, state = machine.apply(machine.with_locks(Locks(2), locks), (100, 100), 0, data)
    assert sum(balances) + locked_units(machine.locks(state)) == 300


def _locks(data: bytes) -> None:
    assert Payments().encode(Payments().decode(data, 2)) == data


HEADER = GroupHeader(GENESIS.chain_id, bytes(32), 0, 3, bytes(32), bytes(32), bytes(32))


def _unseal(data: bytes) -> None:
    open_body(KEYS[0], HEADER, data)


def _sealed(rng: random.Random) -> bytes:
    """Half of them open; none is the body of this header."""
    body = generate.value(Body, rng)
    header = HEADER if rng.random() < 0.5 else structs.replace(HEADER, version=4)
    return _cipher(KEYS[0], header).encrypt(_NONCE, _filled(encode(body)), None)


def _witness_record(data: bytes) -> None:
    decode(data, DeskRecord)  # type: ignore[arg-type]  # a union is not a type
    witness.restore(KEYS[0], [data])


def _event(data: bytes) -> None:
    async def verify(_replica: Any, head: HeadProof) -> Header:
        return LightClient(GENESIS).final(head)

    reader = EventReader(SimpleNamespace(), verify, TRUST, 1_000, groups=(), accounts=())  # type: ignore[arg-type]
    name, _, rest = data.partition(b"\n")
    raw = RawEvent(name.decode("utf-8", "replace"), "block", [rest.decode("utf-8", "replace")])
    with suppress(StopIteration):  # it waits for nobody
        reader._checked(SimpleNamespace(), raw, 1).send(None)  # type: ignore[arg-type]


def _stream(data: bytes) -> None:
    """A stream of events, in parts of seven bytes; whatever can be read of it."""
    parser = EventParser(10_000)
    parts = [data[i : i + 7] for i in range(0, len(data), 7)]
    found = [event for part in parts for event in parser.feed(part)]
    assert found == EventParser(10_000).feed(data), "it matters how a stream is cut"
    for event in found:
        replica_client._event(event)


def _stream_of(rng: random.Random) -> bytes:
    kind, view = rng.choice(list(EVENTS.items()))
    return b"id: 1-0\nevent: %s\ndata: %s\n\n" % (kind.encode(), _json(view)(rng))


def _submission(content_type: str) -> Callable[[bytes], object]:
    return lambda data: api_transactions._parse(content_type, data, ApiLimits())


class _Answer:
    """What an HTTP request gives: these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        return self._data

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def _get_json(data: bytes) -> None:
    http: Any = SimpleNamespace(get=lambda _url: _Answer(data))
    assert isinstance(asyncio.run(get_json(http, "http://127.0.0.1")), dict)


def _api_request(data: bytes) -> None:
    """A body is a request of one of the verbs, or refused for what is wrong with it."""
    body = api_handlers.parse(data)
    for verb in VERBS:
        with suppress(Refused):
            api_handlers.ask(verb, dict.fromkeys(verb.in_path, "x"), body, strict=True)


def _api_event(data: bytes) -> None:
    """What the command line is told by the wallet that is served."""
    for event in EventParser(1_000_000).feed(data):
        with suppress(Refused, msgspec.MsgspecError):
            api_client._progress(event) if event.kind == "progress" else api_client._answer(event, Show())


def _lines(rng: random.Random) -> bytes:
    view = _json(WalletView)(rng)
    problem = b'{"status":422,"title":"a","code":"b","detail":"c"}'
    return rng.choice((b"event: answer\ndata: %s\n\n" % view, b"event: problem\ndata: %s\n\n" % problem))


@cache
def _directory() -> Path:
    holder = tempfile.TemporaryDirectory(prefix="fuzz-")
    _kept.append(holder)
    return Path(holder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files of one's own, which others may have spoiled."""

    def take(data: bytes) -> object:
        path = _directory() / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
        return read(path)

    return take


CONFIG = f"""genesis = "genesis.json"
link = "127.0.0.1:1"
api = "127.0.0.1:2"
database = "sqlite:///x"

[[peers]]
key = "{ALICE.public.hex()}"
link = "127.0.0.1:3"
api = "http://127.0.0.1:4"

[limits]
max_transactions = 5
"""
HOME = 'ledger = ["http://127.0.0.1:1"]\nlisten = "127.0.0.1:2"\n'
ADDRESS = crypto.format_address(ALICE.public)


def _transactions(rng: random.Random) -> bytes:
    """Half of them would be taken."""
    return encode(transfer(rng.randrange(1, 9))) if rng.random() < 0.5 else generate.encoded(Transaction, rng)


def _batches(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return encode(Batch(1, tuple(transfer() for _ in range(rng.randrange(1, 4)))))
    return generate.encoded(Batch, rng)


def _answer(name: str, kind: Any, use: Callable[[Any], object], *covers: str) -> Target:
    """A proof as a client takes it."""
    return _codec(name, kind, *covers, then=use)


def _attacks(rng: random.Random) -> bytes:
    """Without handovers, which have a target of their own: two sides are large enough."""
    sides = [generate.value(HeadProof, rng) for _ in range(2)]
    return encode(AttackProof(GENESIS.chain_id, (), sides[0], sides[1]))


TRUST = proof.Trust(GENESIS)


def _proofs() -> list[Target]:
    name, account, group = bytes(32), ALICE.public, bytes(32)
    return [
        _answer("head proof", HeadProof, partial(proof.verify_head, TRUST), "layer1/reader.py: HeadProof"),
        _answer(
            "account proof",
            AccountProof,
            partial(proof.verify_account, TRUST, account),
            "layer1/reader.py: AccountProof",
        ),
        _answer(
            "group proof",
            GroupProof,
            partial(proof.verify_group, TRUST, group),
            "layer1/reader.py: GroupProof",
            "wallet/proving.py: GroupProof",
        ),
        _answer(
            "appointment proof",
            AppointmentProof,
            partial(proof.verify_appointment, TRUST, account),
            "layer1/reader.py: AppointmentProof",
        ),
        _answer(
            "registration proof",
            RegistrationProof,
            partial(proof.verify_registration, TRUST, name),
            "layer1/reader.py: RegistrationProof",
        ),
        _answer(
            "groups proof",
            GroupsProof,
            partial(proof.verify_groups, TRUST, [group, name]),
            "layer1/reader.py: GroupsProof",
        ),
        _answer("value proof", ValueProof, partial(proof.verify_value, TRUST, b"key"), "layer1/reader.py: ValueProof"),
        _answer("marks proof", MarksProof, partial(proof.verify_marks, TRUST), "layer1/reader.py: MarksProof"),
        _answer(
            "output proof",
            OutputProof,
            partial(proof.verify_output, TRUST, name),
            "layer1/reader.py: OutputProof",
            "layer1/client.py: OutputProof",
        ),
        _answer("handover", Handover, lambda found: LightClient(GENESIS).follow([found]), "layer1/reader.py: Handover"),
        _answer(
            "block proof",
            BlockProof,
            partial(proof.verify_block, TRUST),
            "layer1/client.py: BlockProof",
            "layer1/reader.py: BlockProof",
        ),
        _codec(
            "attack proof",
            AttackProof,
            "layer1/cli_light.py: AttackProof",
            then=partial(verify_attack, GENESIS),
            seeds=_attacks,
        ),
    ]


def _stored() -> list[Target]:
    kinds = {
        "Finalization": Finalization,
        "GroupAgreement": GroupAgreement,
        "Header": Header,
        "Output": Output,
        "tuple[Event, ...]": tuple[Event, ...],
        "tuple[Header, ...]": tuple[Header, ...],
        "tuple[bytes, ...]": tuple[bytes, ...],
    }
    to_delete = {"GroupAgreement", "Header", "Output"}
    return [
        _codec(
            f"stored {name}",
            kind,
            f"layer1/storage/store.py: {name}",
            *([f"layer1/storage/past.py: {name}"] if name in to_delete else []),
        )
        for name, kind in kinds.items()
    ]


def _layer1() -> list[Target]:
    return [
        _codec(
            "transaction",
            Transaction,
            "layer1/api/resources/transactions.py: Transaction",
            "layer1/storage/past.py: Transaction",
            "layer1/storage/store.py: Transaction",
            "wallet/local.py: Transaction",
            then=_use_transaction,
            errors=(Refused,),
            seeds=_transactions,
        ),
        Target(
            "batch",
            _use_batch,
            CODEC,
            _batches,
            (
                "layer1/replica/batches.py: Batch",
                "layer1/replica/catchup.py: Batch",
                "layer1/replica/core.py: Batch",
                "layer1/replica/restart.py: Batch",
            ),
        ),
        _codec("link message", LinkMessage, "layer1/replica/core.py: LinkMessage"),
        _codec("report to one that rejoins", LinkMessage, "layer1/replica/rejoining.py: LinkMessage", then=_report),
        Target(
            "greeting",
            _greet,
            (*CODEC, Refusal),
            partial(generate.encoded, Greeting),
            ("layer1/replica/peers.py: Greeting",),
        ),
        Target(
            "what a light client keeps",
            lambda data: LightClient(GENESIS)._restore(data),
            CODEC,
            partial(generate.encoded, Saved),
            ("layer1/light.py: Saved", "layer1/cli_light.py: Saved"),
        ),
        _codec(
            "evidence",
            Evidence,
            "layer1/reader.py: Evidence",
            then=lambda found: consensus_evidence.verify(found, Trust(GENESIS).voters(0)),
            errors=(Refused,),
        ),
        _codec(
            "genesis",
            Genesis,
            "layer1/reader.py: Genesis",
            then=ledger_genesis.validate,
            errors=(Refused,),
            seeds=lambda rng: encode(GENESIS) if rng.random() < 0.5 else generate.encoded(Genesis, rng),
        ),
        *[
            Target(
                f"handshake {kind.__name__}",
                _handshake(kind),
                (Refusal,),
                partial(generate.encoded, kind),
                ("layer1/handshake.py: kind",),
            )
            for kind in (Challenge, ClientProof, ServerProof)
        ],
        Target("frame", _frame, (Refusal,), _frames),
        Target(
            "journal of consensus",
            lambda data: consensus_records.replay([data], 0, 0),
            (LocalError,),
            partial(generate.encoded, consensus_records.Record),
            ("layer1/consensus/records.py: Record",),
        ),
        Target(
            "journal",
            records.decode_record,
            (LocalError,),
            partial(generate.encoded, records.Record),
            ("layer1/replica/records.py: Record",),
        ),
        Target(
            "checkpoint",
            _use_head,
            (LocalError,),
            partial(generate.encoded, checkpoints.Head),
            ("layer1/replica/checkpoints.py: Head",),
        ),
        Target(
            "checkpoint's records",
            _use_pieces,
            CODEC,
            partial(generate.encoded, image.Piece),
            ("layer1/ledger/image.py: Piece",),
        ),
        Target(
            "submission in JSON",
            _submission("application/json"),
            (Refused,),
            _json(Submission | list[Submission]),
            ("layer1/api/resources/transactions.py: _json.decode",),
        ),
        Target(
            "submission in msgpack",
            _submission("application/msgpack"),
            (Refused,),
            partial(generate.encoded, list[bytes]),
            ("layer1/api/resources/transactions.py: _msgpack.decode",),
        ),
        Target(
            "answer of a replica",
            lambda data: failover._parse(data, "url"),
            CODEC,
            _json(dict[str, Any]),
            ("layer1/failover.py: msgspec.json.decode dict[str, Any]",),
        ),
        Target("page of groups", _list_groups, CODEC, _json(GroupPage)),
        Target(
            "typed answer of a replica",
            lambda data: replica_client._typed(data, TransactionPage),
            CODEC,
            _json(TransactionPage),
            ("layer1/replica_client.py: msgspec.json.decode kind",),
        ),
        Target("stream of events", _stream, CODEC, _stream_of),
        Target(
            "answer to a command",
            _get_json,
            (),
            _json(dict[str, Any]),
            ("layer1/console.py: msgspec.json.decode dict[str, Any]",),
        ),
        Target(
            "event",
            _event,
            CODEC,
            lambda rng: b'1-0\n{"proof": "%s"}' % generate.encoded(HeadProof, rng).hex().encode(),
            ("layer1/eventstream.py: msgspec.json.decode dict[str, Any]", "layer1/eventstream.py: HeadProof"),
        ),
        _text(
            "genesis file",
            ledger_genesis.from_json,
            ledger_genesis.to_json(GENESIS),
            covers=("layer1/ledger/genesis.py: msgspec.json.decode _GenesisText",),
        ),
        Target(
            "replica.toml",
            _file("replica/replica.toml", lambda path: replica_config.load_config(path.parent)),
            (LocalError,),
            lambda _: CONFIG.encode(),
            ("layer1/config.py: tomllib.loads",),
        ),
        Target(
            "key file",
            _file("key", replica_config.read_key),
            (LocalError,),
            lambda rng: rng.randbytes(32).hex().encode(),
        ),
        _text("address", crypto.parse_address, ADDRESS),
    ]


def _layer2_and_wallet() -> list[Target]:
    return [
        _codec("group message", Message, "layer2/messages.py: Message", then=_use_message, errors=(Refused,)),
        _codec("record of a host", layer2_records.JournalRecord, "layer2/driver.py: JournalRecord"),
        _codec("record of a group", layer2_records.Record, "layer2/group.py: Record"),
        _codec("batch of commands", layer2_messages.Batch, "layer2/state.py: Batch"),
        _codec("message of head or standby", chain.ChainMessage, "layer2/chain.py: ChainMessage"),
        _codec("gossip", Gossip, "wallet/neighbours.py: Gossip", then=_hear_gossip, errors=(Untimely,)),
        _codec("role of a home", chain.Role, "layer2/chain.py: Role"),
        _codec("message to a watchtower", tower.ToTower, "layer2/tower.py: ToTower"),
        _codec("message of a watchtower", tower.FromTower, "layer2/tower.py: FromTower"),
        _codec("what a watchtower holds", tower.Guarded, "wallet/watchtower/store.py: Guarded"),
        _codec("receipt of a watchtower", TowerReceipt, "wallet/towers.py: TowerReceipt"),
        _codec(
            "proof of a broken receipt",
            BrokenPromise,
            "wallet/proving.py: BrokenPromise",
            then=partial(check_proof, GENESIS),
            errors=(Refused,),
        ),
        Target("sealed body", _unseal, CODEC, _sealed, ("layer2/sealing.py: Body",)),
        Target(
            "journal of a witness",
            _witness_record,
            (LocalError, *CODEC),
            partial(generate.encoded, DeskRecord),
            (
                "layer2/witness.py: HoldingRecord",
                "wallet/witness/desk.py: DeskRecord",
                "wallet/witness/listing.py: DeskRecord",
            ),
        ),
        _codec("payments of a version", tuple[Command, ...], "wallet/history.py: tuple[Command, ...]"),
        Target(
            "role file",
            _file("wallet/role", lambda path: headship.read_standing(Home(path.parent))),
            (LocalError,),
            partial(generate.encoded, headship.Standing),
            ("wallet/headship.py: Standing",),
        ),
        Target(
            "payment",
            _command,
            (Refused,),
            partial(generate.encoded, PaymentCommand),
            ("layer2/payments.py: _KINDS.get(command[1:2], Pay)", "layer2/payments.py: Pay"),
        ),
        Target(
            "how many locks there were",
            _locks,
            (RemoteError,),
            partial(generate.encoded, int),
            ("layer2/payments.py: int", "layer2/machine.py: machine.decode"),
        ),
        Target(
            "channel record",
            _file("book/ab", book._read),
            (LocalError,),
            partial(generate.encoded, book.ChannelRecord),
            ("wallet/book.py: ChannelRecord", "wallet/headship.py: _FILES"),
        ),
        Target(
            "keystore",
            _file("wallet/keys.json", keystore.Keystore.load),
            (Refused,),
            _json(keystore.KeyFile),
            ("wallet/keystore.py: msgspec.json.decode KeyFile",),
        ),
        Target(
            "config.toml",
            _file("wallet/config.toml", lambda path: Home(path.parent).config()),
            (Refused,),
            lambda _: HOME.encode(),
            ("wallet/home.py: tomllib.loads",),
        ),
        Target(
            "proposal of a replica set",
            _file("wallet/proposal.json", proposals.read_proposal),
            (Refused,),
            _json(proposals._File),
            ("layer1/operating/proposals.py: msgspec.json.decode _File",),
        ),
        Target(
            "history that waits",
            _file("wallet/history.waiting", server_history._read),
            (LocalError,),
            lambda rng: msgspec.msgpack.encode(generate.value(server_history._Waiting, rng)),
            ("wallet/server_history.py: msgspec.msgpack.decode _Waiting",),
        ),
        Target(
            "request to the wallet's API",
            _api_request,
            (Refused,),
            lambda rng: _json(rng.choice(VERBS).request)(rng),
            ("wallet/api/handlers.py: msgspec.json.decode dict[str, Any]",),
        ),
        Target(
            "answer of the wallet's API",
            _api_event,
            api_client.UNREADABLE,
            _lines,
            (
                "wallet/api/client.py: msgspec.json.decode request.answer",
                "wallet/api/client.py: msgspec.json.decode Problem",
                "wallet/api/client.py: msgspec.json.decode Progress",
            ),
        ),
        Target(
            "invoice",
            lambda data: parse_invoice(encode_text(PREFIX, data[:MAX_TEXT])),
            (Refused,),
            _invoice,
            ("wallet/invoices/invoice.py: Invoice",),
        ),
        _text("text of an invoice", parse_invoice, format_invoice(INVOICE), format_invoice(INVOICE).upper()),
        Target(
            "receipt of a payment",
            receipt.read_receipt,
            (Refused,),
            lambda rng: rng.choice((RECEIPT, _json(receipt._File)(rng))),
            ("wallet/invoices/receipt.py: msgspec.json.decode _File",),
        ),
        _codec("record of the forwarder", Record, "wallet/forwarding/companion.py: Record"),
        _codec("invoice that was issued", Issued, "wallet/invoices/book.py: kind"),
        _codec("what came without an invoice", Gift),
        _codec("payment of ours", Payment),
        Target("failure of a hop", failure._read, (), _failure, ("wallet/onion/failure.py: Failure",)),
        Target(
            "mark of a home",
            _file("wallet/life", lambda path: life._read(path, life._Mark)),
            (),
            _json(life._Mark),
            ("wallet/life.py: msgspec.json.decode kind",),
        ),
        _text("contact", contacts.parse_contact, f"{ADDRESS}@127.0.0.1:80", f"{ADDRESS}@[::1]:80"),
        _text("amount", lambda text: amounts.parse_amount(text, GENESIS.currency), "12.50", "0.01", "1e3"),
        _text("duration", period.parse_duration, "1h", "90s", "2d"),
    ]


INVOICE = samples.signed()
RECEIPT = receipt.make_receipt(format_invoice(INVOICE), samples.PREIMAGE)


def _invoice(rng: random.Random) -> bytes:
    """Signed, or only of the right form."""
    return encode(INVOICE) if rng.random() < 0.5 else generate.encoded(Invoice, rng)


def _failure(rng: random.Random) -> bytes:
    return (generate.encoded(failure.Failure, rng) + b"\x01").ljust(failure._TEXT_BYTES, b"\0")


TARGETS = [*_proofs(), *_stored(), *_layer1(), *_layer2_and_wallet()]
