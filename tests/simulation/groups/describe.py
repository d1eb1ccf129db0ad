"""Messages between wallets in a few words, for readers of a trace."""

from __future__ import annotations

from layer1.errors import WedgeError
from layer2.messages import (
    Accept,
    Ack,
    Acks,
    Aside,
    ChangeAccept,
    ChangeDecline,
    ChangeProposal,
    ChangeReady,
    ChangeWish,
    CloseRequest,
    Commit,
    Doubt,
    Error,
    FinalAccept,
    FinalProposal,
    FinalReady,
    GroupMessage,
    Held,
    Hold,
    Inquiry,
    LostData,
    Newest,
    OpeningMessage,
    Propose,
    Resume,
    Standing,
    Submit,
    decode_message,
)
from tests.simulation.describe import short


def message_of(data: bytes) -> str:
    """What a link between wallets carries."""
    try:
        message = decode_message(data)
    except WedgeError:
        return f"{len(data)} bytes that are no message"
    if isinstance(message, OpeningMessage | Aside):
        return type(message).__name__
    return f"{short(message.group_id)} {type(message).__name__}{_detail(message)}"


def _detail(message: GroupMessage) -> str:
    match message:
        case Submit(commands=commands):
            return f" of commands {commands[0].number if commands else 'none'}.."
        case Propose(header=header):
            return f" of version {header.version}, {short(header.hash)}"
        case Accept(version=version):
            return f" of version {version}"
        case Resume(certificate=certificate, highest=highest):
            above = f", signed {highest.version}" if highest is not None else ""
            return f" at version {certificate.header.version}{above}"
        case FinalProposal(final=final):
            return f" on version {final.base_version}"
        case (
            Commit(certificate=certificate)
            | Hold(certificate=certificate)
            | Held(certificate=certificate)
            | Newest(certificate=certificate)
        ):
            return f" of version {certificate.header.version}"
        case Ack(version=version):
            return f" of version {version}"
        case Acks(acks=acks):
            return " by " + ", ".join(f"place {each.place} of version {each.version}" for each in acks)
        case Error(code=code, message=text):
            return f" {code}: {text[:80]}"
        case Standing(absent=absent, version=version):
            return f" absent {list(absent)}, version {version} in flight"
        case ChangeProposal(terms=terms) | ChangeWish(terms=terms):
            return f" of epoch {terms.epoch} by {list(terms.amounts)}, until {terms.expires_ms}"
        case ChangeDecline(code=code, message=text):
            return f" {code}: {text[:80]}"
        case (
            Doubt()
            | LostData()
            | CloseRequest()
            | FinalAccept()
            | FinalReady()
            | Inquiry()
            | ChangeAccept()
            | ChangeReady()
        ):
            return ""
