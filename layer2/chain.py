"""A chain of two, a head and its standby: what they say, write down and do.

The two cores are `layer2.chain_head` and `layer2.chain_standby`; layer 1 is the master that says whose turn it is.

*Safety:* of two homes of one wallet, no two ever show anybody different things at one version.

The head shows nothing that its standby has not confirmed, in a term in which they are paired; only who was paired in a
term asks for the next one; and from when layer 1 shows that it has it, it confirms nothing, durably. So whoever leads
holds all that anybody was ever shown.

*Source:* van Renesse and Schneider, Chain Replication (2004), section 3; van Renesse, Ho and Schiper (2012);
docs/decisions/031.
*Deviation:* the master is layer 1, and knows heads only. That the two are paired, each of them has on its own disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.codec import Struct, decode

NAME_BYTES = 32
"""Of the name of a home, random: layer 1's `Head.head`."""

Name = bytes

# ---------------------------------------------------------------------------------------------------------- on disk


class Leading(Struct, tag="leading/1"):
    """This home signs."""

    name: Name
    term: int = 0
    """In which layer 1 has shown it as head; 0: nobody was ever appointed."""
    standby: Name = b""
    """Whose confirmations it waits for; empty while it is alone."""

    @property
    def paired(self) -> bool:
        """Whether nothing may leave without the standby. Within a term that never ends."""
        return self.standby != b""


class Following(Struct, tag="following/1"):
    """This home keeps what the head sends, and signs nothing."""

    name: Name
    term: int = 0
    """Of the head that it follows, or was shown last."""
    head: Name = b""
    paired: bool = False
    """It holds all that the head of this term ever showed: it may be promoted."""


Role = Leading | Following


def decode_role(data: bytes) -> Role:
    """What was written down.

    Raises:
        RemoteError: It is no role.
    """
    return decode(data, Role)  # type: ignore[arg-type]  # a union of structs


# ------------------------------------------------------------------------------------------------- head to standby


class Hello(Struct, tag=1):
    """Opens every link."""

    name: Name
    term: int
    run: bytes
    """16 random bytes of this process: turns are numbered within a run."""
    position: int
    """Its newest turn."""


class Part(Struct, tag=2):
    """Some of what the head holds; comes before a `Whole`."""

    files: tuple[bytes, ...]
    records: tuple[bytes, ...]


class Whole(Struct, tag=3):
    """The parts before this are everything, as of this turn."""

    position: int


class Batch(Struct, tag=4):
    """What one turn of the head appended; often nothing, and confirmed all the same."""

    position: int
    files: tuple[bytes, ...] = ()
    """Of the book, whole; they come before the records."""
    records: tuple[bytes, ...] = ()
    """Of the journal."""


class Pairing(Struct, tag=5):
    """All that I ever showed in this term came to you before this, and from now on I wait for you."""

    term: int


# ------------------------------------------------------------------------------------------------- standby to head


class Welcome(Struct, tag=6):
    """What the standby has."""

    name: Name
    run: bytes
    """Empty if it has nothing that it knows the origin of."""
    position: int


class Confirmed(Struct, tag=7):
    """All turns up to this one are durable here."""

    position: int


class Unwilling(Struct, tag=8):
    """It confirms nothing to this head: it knows a higher term, or another head of this one."""

    term: int
    """That the standby is in."""


HeadMessage = Hello | Part | Whole | Batch | Pairing
StandbyMessage = Welcome | Confirmed | Unwilling
ChainMessage = HeadMessage | StandbyMessage


def decode_chain_message(data: bytes) -> ChainMessage:
    """Read a message of either side.

    Raises:
        RemoteError: It is none.
    """
    return decode(data, ChainMessage)  # type: ignore[arg-type]  # a union of structs


# ------------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Turn:
    """The head appended this, durably here, and wants to show what follows from it."""

    files: tuple[bytes, ...] = ()
    records: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Linked:
    """There is a new link; nothing was said on it."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link is gone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The other side said this."""

    message: ChainMessage


@dataclass(frozen=True, slots=True)
class Shown:
    """Layer 1, final and proven, has this home as head in this term."""

    term: int
    head: Name


@dataclass(frozen=True, slots=True)
class Asked:
    """The user wants this home to lead: a standby to be promoted, a head to go on alone."""


Event = Turn | Linked | Unlinked | Heard | Shown | Asked

# ----------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Write:
    """Write the role down, durably, before what comes after."""

    role: Role


@dataclass(frozen=True, slots=True)
class Tell:
    """Say this on the link."""

    message: ChainMessage


@dataclass(frozen=True, slots=True)
class HandOver:
    """Send everything that is held, as parts, and then `Whole(position)`; what is told after this goes after it."""

    position: int


@dataclass(frozen=True, slots=True)
class Perform:
    """Let out what follows from all turns up to this one."""

    position: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Append this, durably, before what comes after."""

    files: tuple[bytes, ...]
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """As `Keep`, in place of all records that are here, wholly or not at all."""

    files: tuple[bytes, ...]
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """End the link."""

    reason: str


@dataclass(frozen=True, slots=True)
class AskLayer1:
    """Bring an `Appoint` of this home for this term to layer 1; what it shows then, comes as `Shown`."""

    term: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another home leads: let nothing out any more, and end."""

    term: int


@dataclass(frozen=True, slots=True)
class Lead:
    """This home is the head from here on."""

    term: int


Effect = Write | Tell | HandOver | Perform | Keep | Swap | Cut | AskLayer1 | Fenced | Lead
