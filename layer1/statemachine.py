"""A state machine of one's own on layer 1: what it may do, and what keeps it within that.

Safety: a command that is refused leaves no trace, and replicas that run the same machine get the same from the same.

A ledger has money and groups, and one machine at most, which its genesis names. A machine is a function of the values
that it has written, the sender of a command, its bytes, and the ledger clock. What it writes goes into a view beside
the state, and from there into the state only when it returned; the values stand under the state's own root, so that
they are proven as balances are. The bounds here hold for every machine: they are what a block's weight reckons with.

Of code of others we cannot promise that it never fails. An exception that is no refusal refuses the command, with the
same words on every replica: were it to stop them, one command that somebody found would end the ledger. What depends
on the process instead (memory, the depth of the stack) stops the replica: it must not answer otherwise than others do.

Source: docs/design/consensus.md, "A state machine of one's own"; decision 024.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError, Refused, check
from layer1.ledger.records import machine_key

MAX_KEY_BYTES = 256
"""A key has at least one."""
MAX_VALUE_BYTES = 4_096
"""Of one value; a checkpoint holds them all."""
MAX_WRITES = 8
"""Keys that one command writes: with their part of the tree they cost what four signatures do (limits.md)."""
MAX_ANSWER_CHARS = 1_000
"""In an answer, and in the words of a refusal: outputs are kept for good."""

FAILED = "machine_failed"
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NO_REFUSALS = {"ok", FAILED}
"""Codes that a machine may not refuse with: they would say that it did not refuse."""


class View(Protocol):
    """The machine's values, as of now: those of the state, and above them what this command has written."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key of 1 to 256 bytes; None if it has none.

        Raises:
            Refused: ``bad_key``.
        """
        ...

    def set(self, key: bytes, value: bytes | None) -> None:
        """Give the key another value, of up to 4,096 bytes, or with None no value any more.

        Raises:
            Refused: ``bad_key``, ``value_too_large`` or ``too_many_writes``.
        """
        ...


class StateMachine(Protocol):
    """Deterministic: no clock, no randomness, no I/O, no state of its own, no order of a set.

    It bounds its own work, and how deep it follows what somebody sent: who lets it run out of stack stops the ledger.
    """

    @property
    def name(self) -> str:
        """What the genesis calls it, with a version that changes whenever an answer would: ``names/1``."""
        ...

    def execute(self, view: View, sender: PublicKey, command: bytes, clock_ms: int) -> str:
        """Do what the sender, who signed it, asks for.

        Args:
            view: What it reads and writes.
            sender: The account that signed the command.
            command: Whatever somebody sent: any bytes.
            clock_ms: Ledger clock of the block.

        Returns:
            The answer: the message of the command's output, which is proven as every output is.

        Raises:
            Refused: With a code of its own (a-z, 0-9 and _). Nothing is written then.
        """
        ...


class CommandView:
    """The :class:`View` of one command."""

    def __init__(self, read: Callable[[Hash], bytes | None]) -> None:
        self._read = read
        self.written: dict[Hash, bytes | None] = {}
        """By place in the tree."""

    def get(self, key: bytes) -> bytes | None:
        """See :class:`View`."""
        place = _place(key)
        return self.written[place] if place in self.written else self._read(place)

    def set(self, key: bytes, value: bytes | None) -> None:
        """See :class:`View`."""
        place = _place(key)
        if value is not None:
            if type(value) is not bytes:
                raise TypeError(f"a value is bytes or None, not {type(value).__name__}")
            size = len(value)
            check(size <= MAX_VALUE_BYTES, "value_too_large", f"a value of {size} bytes; at most {MAX_VALUE_BYTES}")
        count = len(self.written) + (place not in self.written)
        check(count <= MAX_WRITES, "too_many_writes", f"a command writes {count} keys; at most {MAX_WRITES}: use two")
        self.written[place] = value


def check_command(machine: StateMachine | None, sender: PublicKey, balance: int) -> StateMachine:
    """Refuse a command that nothing can execute, or whose sender has nothing: keys alone are had for nothing.

    Raises:
        Refused: ``no_machine`` or ``insufficient_balance``.
    """
    if machine is None:
        raise Refused("no_machine", "this ledger runs no state machine; its genesis names none")
    check(balance >= 1, "insufficient_balance", f"account {sender.hex()} has {balance} units, 1 is needed to command")
    return machine


def run(machine: StateMachine, view: CommandView, sender: PublicKey, command: bytes, clock_ms: int) -> str:
    """Let the machine execute one command; `view` then holds what is to be written.

    Raises:
        Refused: By the machine, or ``machine_failed``. Nothing is to be written.
        LocalError: This process could not execute it, which says nothing about others.
    """
    try:
        answer = machine.execute(view, sender, command, clock_ms)
    except Refused as refusal:
        raise _bounded(refusal) from None
    except (MemoryError, RecursionError) as error:
        raise LocalError(
            f"machine {machine.name} could not execute a command of {len(command)} bytes: {type(error).__name__}. "
            "Other replicas may have; give this process more memory, and let the machine neither recurse nor hoard"
        ) from error
    except Exception:  # noqa: BLE001 - whatever the code of others raises
        raise _failed("it raised something else than a refusal") from None
    if type(answer) is not str or not _is_text(answer):
        raise _failed(f"its answer is no text of at most {MAX_ANSWER_CHARS} characters")
    return answer


def _bounded(refusal: Refused) -> Refused:
    """The machine's refusal, if an output can hold it."""
    code, message = refusal.code, refusal.message
    if type(code) is not str or not _CODE.fullmatch(code) or code in _NO_REFUSALS:
        return _failed("the code of its refusal is not of 1 to 64 characters a-z, 0-9 and _, or not its own")
    if type(message) is not str or not _is_text(message):
        return _failed(f"the words of its refusal are no text of at most {MAX_ANSWER_CHARS} characters")
    return refusal


def _failed(why: str) -> Refused:
    return Refused(FAILED, f"the machine failed on this command, which changed nothing: {why}; tell who wrote it")


def _is_text(text: str) -> bool:
    """Half a surrogate pair is a character that no encoding can carry."""
    return len(text) <= MAX_ANSWER_CHARS and not any("\ud800" <= character <= "\udfff" for character in text)


def _place(key: bytes) -> Hash:
    if type(key) is not bytes:
        raise TypeError(f"a key is bytes, not {type(key).__name__}")
    check(1 <= len(key) <= MAX_KEY_BYTES, "bad_key", f"a key of {len(key)} bytes; it has 1 to {MAX_KEY_BYTES}")
    return machine_key(key)
