"""Genesis: the one thing that everybody must have and trusts; its hash is the chain id.

Safety: a genesis that passes :func:`validate` has money within bounds, f faulty replicas below a third (Byzantine) or
a half (omission), and a ledger clock that can keep up with time.

Source: docs/design/consensus.md, "Model" and "Time".
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from layer1 import merkle
from layer1.codec import Struct, encode
from layer1.consensus.quorum import FaultModel
from layer1.crypto import PUBLIC_KEY_BYTES, Domain, Hash, PublicKey, digest, format_address, parse_address
from layer1.errors import Refused, check
from layer1.header import Header
from layer1.ledger.records import REPLICA_SET_KEY, Account, account_key, leaf_hash
from layer1.ledger.replicas import ReplicaSet, first_set

MAX_MONEY = 2**53 - 1
"""All money there may be, minor units: JSON readers in every language agree on integers up to here."""

SALT_BYTES = 16
"""Random bytes in everything that must be unique."""

MAX_TERM_VIEWS = 1_000
"""Replicas look at every view of a term when they vote: more would only make each vote slower."""

MAX_MACHINE_CHARS = 64
"""In the name of the state machine."""

REPORT_ROOM_BYTES = 4_096
"""What a report takes beside machine state and locks: a certificate and balances of 16 members, and a claim, are 2,500.
"""


class Currency(Struct):
    """What the minor units mean to people."""

    symbol: str
    """Two to eight capital letters, such as ``WDG``."""
    decimals: int
    """Digits behind the point, 0 to 8: 250 minor units with 2 decimals read 2.50."""


class Allocation(Struct):
    """Money that an account has from the start."""

    address: PublicKey
    amount: int
    """Minor units."""


class Parameters(Struct):
    """What all replicas must agree on. Times are milliseconds."""

    drift_bound_ms: int = 2_000
    """How far a leader's wall time may be ahead of, or behind, a voter's."""
    max_step_ms: int = 60_000
    """Most that the ledger clock advances in one block; at least heartbeat + (f+1) view timeouts."""
    heartbeat_ms: int = 10_000
    """An idle ledger makes an empty block this often."""
    view_timeout_ms: int = 1_000
    """First timeout of a view; doubles with each nullified term, up to a bound."""
    max_valid_ms: int = 600_000
    """How far ahead `valid_until` may lie, and so how long an id is remembered at most."""
    min_challenge_ms: int = 1_000
    max_challenge_ms: int = 90 * 24 * 3_600_000
    max_members: int = 16
    due_per_block: int = 1_000
    """Groups settled at their deadline per block; the rest is carried over in order."""
    max_block_transactions: int = 5_000
    max_transaction_bytes: int = 16_384
    term_views: int = 64
    """L: views in a row that one replica leads."""
    max_lock_ms: int = 7 * 24 * 3_600_000
    """How far ahead a lock may expire; layer 1 takes none for later, counted from the settlement (rule 21)."""
    preimage_kept_ms: int = 30 * 24 * 3_600_000
    """How long a registration is kept at least, since it was last renewed: the longest lock, and the dispute in which
    it may be needed."""

    @property
    def max_locking_ms(self) -> int:
        """Longest challenge period, or witnesses' timeout, of a group with locks.

        A dispute lasts two of them after a plea, and a third one passes while its body is unknown: whoever registers a
        preimage at the last moment, and wedges then, is still paid by the registration.
        """
        return (self.preimage_kept_ms - self.max_lock_ms) // 3

    @property
    def renew_after_ms(self) -> int:
        """So long after it was shown last, a preimage that is shown again is kept anew (rule 21).

        Half of the longest lock: what was renewed less than that before an expiry, and some margins, is kept for longer
        than what was first shown when the lock was made; for that `max_locking_ms` leaves room.
        """
        return self.max_lock_ms // 2

    @property
    def inclusion_timeout_ms(self) -> int:
        """How long a leader may leave a transaction out before the others go on without it (consensus.md, rule 6)."""
        return max(10_000, self.view_timeout_ms)


class Genesis(Struct, dict=True, gc=True):
    """The first state of a chain."""

    name: str
    salt: bytes
    """16 random bytes, so that two ledgers of one configuration are two chains."""
    currency: Currency
    allocations: tuple[Allocation, ...]
    replicas: tuple[PublicKey, ...]
    """Replica i signs with key i."""
    fault_model: FaultModel
    wall_time: int
    """Milliseconds since 1970; the genesis header's wall time. The ledger clock starts at 0."""
    parameters: Parameters = Parameters()
    machine: str = ""
    """Name and version of the state machine that executes commands, such as ``names/1``; empty for none."""

    @cached_property
    def chain_id(self) -> Hash:
        """Hash of the whole genesis, which may be large; part of everything that is signed."""
        return digest(Domain.GENESIS, encode(self))

    @cached_property
    def replica_set(self) -> ReplicaSet:
        """Who certifies the blocks of epoch 0."""
        return first_set(self.replicas, self.fault_model)

    @property
    def supply_units(self) -> int:
        """All money of the chain: transactions move it, none makes or burns any."""
        return sum(allocation.amount for allocation in self.allocations)


def genesis_tree(genesis: Genesis) -> merkle.Tree:
    """The authenticated state before the first block."""
    leaves = {account_key(a.address): leaf_hash(Account(a.amount)) for a in genesis.allocations}
    return merkle.EMPTY.update({**leaves, REPLICA_SET_KEY: genesis.replica_set.hash})


def genesis_header(genesis: Genesis) -> Header:
    """Block 0: view 0, height 0, final by definition. Its parent is the chain id, so no two chains share a block."""
    nothing = merkle.list_root([])
    return Header(
        epoch=0,
        view=0,
        height=0,
        parent=genesis.chain_id,
        clock=0,
        wall_time=genesis.wall_time,
        batches_root=nothing,
        transactions_root=nothing,
        state_root=genesis_tree(genesis).root,
        outputs_root=nothing,
        replica_set=genesis.replica_set.hash,
    )


class _AllocationText(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    amount: int


class _CurrencyText(msgspec.Struct, forbid_unknown_fields=True):
    symbol: str
    decimals: int


class _GenesisText(msgspec.Struct, forbid_unknown_fields=True):
    """The file as people edit it: addresses with checksum, other bytes in hex, parameters by name."""

    name: str
    salt: str
    currency: _CurrencyText
    allocations: list[_AllocationText]
    replicas: list[str]
    fault_model: FaultModel
    wall_time: int
    parameters: dict[str, int] = {}
    machine: str = ""
    chain_id: str = ""
    encoded: str = ""
    """Both for readers of JSON who do not encode; if there, they must agree with the rest."""


def to_json(genesis: Genesis) -> str:
    """The genesis file: every field by name, two spaces of indent, a newline at the end."""
    text = _GenesisText(
        name=genesis.name,
        salt=genesis.salt.hex(),
        currency=_CurrencyText(genesis.currency.symbol, genesis.currency.decimals),
        allocations=[_AllocationText(format_address(a.address), a.amount) for a in genesis.allocations],
        replicas=[key.hex() for key in genesis.replicas],
        fault_model=genesis.fault_model,
        wall_time=genesis.wall_time,
        parameters=_as_dict(genesis.parameters),
        machine=genesis.machine,
        chain_id=genesis.chain_id.hex(),
        encoded=encode(genesis).hex(),
    )
    return msgspec.json.format(msgspec.json.encode(text), indent=2).decode() + "\n"


def from_json(text: str) -> Genesis:
    """Read a genesis file. Parameters that it leaves out have their defaults.

    Raises:
        Refused: ``bad_genesis`` or ``bad_address`` when it is no such file; what :func:`validate` refuses.
    """
    try:
        raw = msgspec.json.decode(text, type=_GenesisText)
        salt, replicas = bytes.fromhex(raw.salt), tuple(map(bytes.fromhex, raw.replicas))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refused("bad_genesis", f"this is no genesis file: {error}; compare it with a fresh one") from error
    unknown = sorted(set(raw.parameters) - set(Parameters.__struct_fields__))
    check(not unknown, "bad_genesis", f"unknown parameters: {', '.join(unknown)[:200]}; see Parameters for the names")
    genesis = Genesis(
        name=raw.name,
        salt=salt,
        currency=Currency(raw.currency.symbol, raw.currency.decimals),
        allocations=tuple(Allocation(parse_address(a.address), a.amount) for a in raw.allocations),
        replicas=replicas,
        fault_model=raw.fault_model,
        wall_time=raw.wall_time,
        parameters=Parameters(**raw.parameters),
        machine=raw.machine,
    )
    validate(genesis)
    agree = raw.encoded in {"", encode(genesis).hex()} and raw.chain_id in {"", genesis.chain_id.hex()}
    check(agree, "bad_genesis", "chain_id or encoded is of another genesis than the rest; remove them after an edit")
    return genesis


def _as_dict(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def validate(genesis: Genesis) -> None:
    """Check everything that the rest of the ledger takes for granted.

    Raises:
        Refused: The first thing that is wrong, by which numbers, and how to mend it.
    """
    _check_names(genesis)
    _check_replicas(genesis)
    _check_money(genesis)
    _check_times(genesis)
    _check_sizes(genesis.parameters)


def _check_names(genesis: Genesis) -> None:
    salt, symbol, decimals = genesis.salt, genesis.currency.symbol, genesis.currency.decimals
    check(1 <= len(genesis.name) <= 64, "bad_name", f"a ledger's name has 1 to 64 characters, not {len(genesis.name)}")
    check(len(salt) == SALT_BYTES, "bad_salt", f"the salt has {SALT_BYTES} random bytes, not {len(salt)}")
    letters = symbol.isascii() and symbol.isalpha() and symbol.isupper() and 2 <= len(symbol) <= 8
    check(letters, "bad_currency", f"a currency symbol is 2 to 8 capital letters, not {symbol[:16]!r}")
    machine = genesis.machine
    good = len(machine) <= MAX_MACHINE_CHARS and all("!" <= character <= "~" for character in machine)
    check(good, "bad_machine", f"a machine is called like names/1, 64 characters at most, not {machine[:80]!r}")
    check(0 <= decimals <= 8, "bad_currency", f"a currency has 0 to 8 decimals, not {decimals}")


def _check_replicas(genesis: Genesis) -> None:
    replicas = genesis.replicas
    check(len(replicas) > 0, "no_replicas", "a ledger needs at least 1 replica and has 0; add their public keys")
    for i, key in enumerate(replicas):
        _check_key(key, f"replica {i}")
        check(
            key not in replicas[:i],
            "replica_twice",
            f"replicas {replicas.index(key)} and {i} share a key",
        )
    known = genesis.fault_model in {"byzantine", "omission"}
    check(known, "bad_fault_model", f"the fault model is byzantine or omission, not {str(genesis.fault_model)[:16]!r}")


def _check_money(genesis: Genesis) -> None:
    seen: set[PublicKey] = set()
    for allocation in genesis.allocations:
        name = f"allocation {allocation.address.hex()[:16]}"
        _check_key(allocation.address, name)
        check(allocation.address not in seen, "allocation_twice", f"{name} stands there twice; add the amounts up")
        check(allocation.amount >= 1, "bad_amount", f"{name} is of {allocation.amount} units; give at least 1")
        seen.add(allocation.address)
    supply = genesis.supply_units
    check(supply <= MAX_MONEY, "too_much_money", f"allocations add up to {supply}, at most {MAX_MONEY} may be")


def _check_times(genesis: Genesis) -> None:
    p = genesis.parameters
    check(0 <= genesis.wall_time <= MAX_MONEY, "bad_wall_time", f"wall time {genesis.wall_time} is not ms since 1970")
    needed = p.heartbeat_ms + (genesis.replica_set.faults + 1) * p.view_timeout_ms
    check(
        p.max_step_ms >= needed,
        "max_step_too_small",
        f"max_step_ms is {p.max_step_ms}, below heartbeat + (f+1) view timeouts = {needed}: the ledger clock would "
        "fall behind for ever; raise it",
    )
    shortest = p.min_challenge_ms
    check(
        p.max_locking_ms >= shortest,
        "bad_lock_bounds",
        f"preimage_kept_ms is {p.preimage_kept_ms}; it must be max_lock_ms {p.max_lock_ms} and three periods of "
        f"min_challenge_ms {shortest} at least, or a registration is forgotten before its lock is settled; raise it",
    )
    ordered = p.min_challenge_ms <= p.max_challenge_ms
    check(
        ordered,
        "bad_challenge_bounds",
        f"min_challenge_ms {p.min_challenge_ms} is above max_challenge_ms {p.max_challenge_ms}; swap them",
    )


def _check_sizes(parameters: Parameters) -> None:
    for name in parameters.__struct_fields__:
        value = getattr(parameters, name)
        check(1 <= value <= MAX_MONEY, "bad_parameter", f"{name} is {value}; it must be from 1 to {MAX_MONEY}")
    members, size = parameters.max_members, parameters.max_transaction_bytes
    check(2 <= members <= 16, "bad_parameter", f"max_members is {members}; a group has 2 to 16 members")
    views = parameters.term_views
    check(views <= MAX_TERM_VIEWS, "bad_parameter", f"term_views is {views}; a term has at most {MAX_TERM_VIEWS} views")
    check(
        size >= REPORT_ROOM_BYTES,
        "bad_parameter",
        f"max_transaction_bytes is {size}; a report alone takes {REPORT_ROOM_BYTES}",
    )


def _check_key(key: PublicKey, name: str) -> None:
    right = len(key) == PUBLIC_KEY_BYTES
    check(right, "bad_key", f"{name} has a key of {len(key)} bytes; a public key has {PUBLIC_KEY_BYTES}")
