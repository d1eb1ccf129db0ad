"""What a transaction must pass before a block executes it: form, life span, and the signatures of its accounts.

Safety: no money leaves an account without that account's signature over this very transaction, on this chain.

Signatures are checked here, once, off the critical path: by the replica that takes a transaction in and by every
replica that receives its batch, each for itself. So a batch with one bad signature is refused whole, and execution
need not look again. One verifier, one signature at a time, everywhere: replicas must not differ on any.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from layer1.codec import encode
from layer1.crypto import Hash, verify
from layer1.errors import Refused, check
from layer1.ledger.appointments import appoint
from layer1.ledger.changing import added
from layer1.ledger.genesis import SALT_BYTES
from layer1.ledger.opening import funding
from layer1.ledger.state import State
from layer1.ledger.transactions import Appoint, ChangeGroup, Command, OpenGroup, Transaction, Transfer, kind_of, signers
from layer1.statemachine import check_command


def verify_transaction(transaction: Transaction, chain_id: Hash) -> None:
    """Check form and account signatures. Pure computation, about 70 us for each signature.

    Raises:
        Refused: ``bad_salt`` or ``bad_signature``.
    """
    salt = len(transaction.salt)
    check(salt == SALT_BYTES, "bad_salt", f"the salt has {salt} bytes; it needs {SALT_BYTES} random ones")
    keys, signatures = signers(transaction.payload), transaction.signatures
    if len(keys) != len(signatures):
        raise Refused("bad_signature", f"{len(signatures)} signatures for {len(keys)} accounts; each signs once")
    kind, name = kind_of(transaction.payload), transaction.id
    for i, (key, signature) in enumerate(zip(keys, signatures, strict=True)):
        if not verify(key, signature, kind, chain_id, name):
            raise Refused("bad_signature", f"signature {i} over {name.hex()} is not by account {key.hex()}")


def admit(state: State, transaction: Transaction, encoded_bytes: int | None = None) -> None:
    """The mempool's cheap checks against the newest state, before any signature is verified.

    Args:
        state: The committed head.
        transaction: What came in.
        encoded_bytes: Its encoded length, if known.

    Raises:
        Refused: ``too_large``, ``expired``, ``not_yet_valid``, ``already_executed``, ``no_machine``,
            ``insufficient_balance``, or as :func:`~layer1.ledger.appointments.appoint` does.
    """
    size = len(encode(transaction)) if encoded_bytes is None else encoded_bytes
    most = state.parameters.max_transaction_bytes
    check(size <= most, "too_large", f"the transaction has {size} bytes; at most {most} are taken")
    check_window(transaction.valid_until_ms, state.clock, state.parameters.max_valid_ms)
    if state.remembered(transaction.id):
        raise Refused("already_executed", f"transaction {transaction.id.hex()} is in a block already; look it up")
    _check_balances(state, transaction.payload)


def check_window(valid_until_ms: int, clock_ms: int, max_valid_ms: int) -> None:
    """Refuse a transaction whose life span is over, or ends further ahead than ids are remembered.

    Raises:
        Refused: ``expired`` or ``not_yet_valid``.
    """
    if valid_until_ms < clock_ms:
        raise Refused("expired", f"valid until {valid_until_ms}, clock is {clock_ms}; sign a new transaction")
    if valid_until_ms > clock_ms + max_valid_ms:
        latest = clock_ms + max_valid_ms
        raise Refused("not_yet_valid", f"valid until {valid_until_ms}, at most {latest} is allowed now")


def _check_balances(state: State, payload: object) -> None:
    if isinstance(payload, Transfer):
        needed = {payload.sender: payload.amount}
    elif isinstance(payload, OpenGroup):
        needed = dict(funding(payload.agreement))
    elif isinstance(payload, ChangeGroup):
        needed = dict(added(payload.successor.deposits))
    elif isinstance(payload, Command):
        check_command(state.machine, payload.sender, state.balance(payload.sender))
        return
    elif isinstance(payload, Appoint):
        appoint(state.appointed(payload.account), payload, state.balance(payload.account))
        return
    else:
        return
    for address, units in needed.items():
        balance = state.balance(address)
        if units > balance:
            raise Refused(
                "insufficient_balance",
                f"account {address.hex()} has {balance} units, {units} are needed",
            )
