"""Which exit code an error gets, and what a person reads about it.

Programs decide by ``code`` (stable, in ``--json``) or by the exit code; people read the message.
"""

from __future__ import annotations

from enum import IntEnum

from layer1.client import LedgerAttacked, LedgerUnreachable, StaleLedger, TransactionDead
from layer1.errors import LocalError, NotYet, Refused, RemoteError
from layer1.link import LinkClosed
from layer2.driver import Pending


class Exit(IntEnum):
    """Exit codes of the command."""

    OK = 0
    REFUSED = 1
    """Understood, not allowed, nothing changed; or the ledger refused it."""
    USAGE = 2
    LEDGER = 3
    """No replica answers, or what answers is not to be believed or is out of date."""
    PEER = 4
    """The other side of the channel is away, or cannot prove who it is."""
    LOCKED = 5
    """No passphrase, or a wrong one."""
    BUSY = 6
    """Another process holds this home and does not answer on its socket."""
    PENDING = 7
    """It was begun, and its fate is not known yet: look again, do not repeat it."""
    FAULT = 8
    """This wallet's disk or state is damaged; it stopped rather than guess."""
    INTERRUPTED = 130


EXITS: dict[str, Exit] = {
    "bad_usage": Exit.USAGE,
    "bad_amount": Exit.USAGE,
    "bad_address": Exit.USAGE,
    "bad_contact": Exit.USAGE,
    "bad_duration": Exit.USAGE,
    "ledger_unreachable": Exit.LEDGER,
    "ledger_stale": Exit.LEDGER,
    "ledger_attacked": Exit.LEDGER,
    "ledger_untrusted": Exit.LEDGER,
    "peer_unreachable": Exit.PEER,
    "peer_silent": Exit.PEER,
    "wrong_identity": Exit.PEER,
    "witness_unreachable": Exit.PEER,
    "witness_silent": Exit.PEER,
    "wrong_passphrase": Exit.LOCKED,
    "no_passphrase": Exit.LOCKED,
    "home_busy": Exit.BUSY,
    "pending": Exit.PENDING,
    "bad_invoice": Exit.USAGE,
    "amount_needed": Exit.USAGE,
    "bad_keystore": Exit.FAULT,
    "bad_light_file": Exit.FAULT,
    "local_fault": Exit.FAULT,
    "interrupted": Exit.INTERRUPTED,
}
"""Codes that do not exit with REFUSED."""

HELP = (
    "Exit codes: 0 done; 1 refused, nothing changed; 2 the command line is wrong; 3 the ledger is unreachable or out "
    "of date; 4 the peer is unreachable; 5 the wallet is locked (no passphrase, or a wrong one); 6 another process "
    "holds this home; 7 begun, and its fate is not known yet: look again, do not repeat it; 8 this wallet's files are "
    "damaged."
)
"""Stands under ``wallet --help``."""


def as_refusal(error: BaseException) -> Refused:
    """Any error that we raise on purpose, as a code and a text."""
    match error:
        case Refused():
            return error
        case LedgerAttacked():
            return Refused("ledger_attacked", str(error))
        case StaleLedger():
            return Refused("ledger_stale", f"the ledger is out of date: {error}")
        case LedgerUnreachable():
            return Refused(
                "ledger_unreachable", f"the ledger is out of reach: {error}. If it moved: `wallet connect --ledger URL`"
            )
        case TransactionDead():
            return Refused("expired", str(error))
        case Pending():
            return Refused("pending", f"{error} Do not repeat it: `wallet history` tells what became of it")
        case LinkClosed():
            return Refused("peer_unreachable", f"the peer is out of reach: {error}")
        case NotYet():
            return Refused("pending", str(error))
        case RemoteError():
            return Refused("peer_broke_protocol", f"the other side broke the protocol: {error}")
        case LocalError():
            return Refused("local_fault", str(error))
        case _:
            return Refused(
                "internal_error", f"this is a fault of the wallet ({type(error).__name__}): please report it"
            )


def exit_of(code: str) -> Exit:
    """The exit code for an error code."""
    return EXITS.get(code, Exit.FAULT if code == "internal_error" else Exit.REFUSED)
