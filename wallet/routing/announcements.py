"""What members of channels say about them to everybody: on which terms they forward.

Layer 1 shows which channels exist, whose they are and how much is in them. What it cannot show their members
*announce*, signed with the identity that funded the channel: per direction the fee, the limits, a coarse hint of what
can be sent, and whether payments are forwarded at all. Where a member listens stands in the agreement, if it says so,
and its identity opens its layer of an onion: neither has to be announced.

*Safety:* an announcement speaks for its signer alone, on one chain, and an older one never replaces a newer one. What
a signer says of itself may be false: that costs a payment a failed try, never money.

Source: docs/design/groups.md, rules 20 to 23; decision 039.
"""

from __future__ import annotations

from msgspec import structs

from layer1.codec import Struct, encode
from layer1.crypto import HASH_BYTES, PUBLIC_KEY_BYTES, Hash, Kind, PublicKey, Signature, SigningKey, verify
from layer1.errors import RemoteError
from layer1.ledger.genesis import MAX_MONEY

PPM = 1_000_000
"""A proportional fee of so many millionths is the whole amount; more is refused."""
HINT_STEPS = 16
"""How coarse a liquidity hint is: in sixteenths of what is in the channel. Finer, it would show single payments."""
MAX_MARGIN_MS = 7 * 24 * 3_600_000
"""As long as a lock may live at most: who asks for more forwards nothing."""


class Toll(Struct):
    """On which terms the owner of a wallet wants payments to be forwarded over a channel."""

    enabled: bool = True
    fee_base: int = 1
    """Minor units per payment."""
    fee_ppm: int = 100
    """Millionths of the amount that leaves."""
    min_amount: int = 1
    """Minor units."""
    max_amount: int | None = None
    """Minor units; None for all that the channel can carry."""


class ChannelAnnouncement(Struct):
    """On which terms `node` forwards payments out of itself, over one of its channels."""

    node: PublicKey
    """The member that sends in this direction: its funding account, the identity of its links, which signs this."""
    channel: Hash
    """Layer 1's name of the group."""
    sequence: int
    """The highest counts. The signer's wall clock in ms, and one more than the last one at least; 1 or above."""
    enabled: bool
    """Whether `node` forwards over it at present."""
    fee_base: int
    """Minor units per payment."""
    fee_ppm: int
    """Millionths of the amount that leaves over this channel; the fee is rounded up."""
    min_amount: int
    """Minor units; a lock below is refused (rule 23). At least 1."""
    max_amount: int
    """Minor units that one lock may have at most."""
    margin_ms: int
    """Ledger clock: `node` takes no lock that expires earlier than this from now (M of rule 22, and its own
    caution)."""
    hint: int | None = None
    """Opt-in: at least so many sixteenths of the channel's money can be sent in this direction."""
    signature: Signature = b""
    """Kind ANNOUNCE_CHANNEL, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode(structs.replace(self, signature=b""))


Topic = tuple[Hash, PublicKey]
"""What an announcement is about: a channel and its signer. One at a time counts for each topic."""


def topic_of(announcement: ChannelAnnouncement) -> Topic:
    """What it is about."""
    return announcement.channel, announcement.node


def sign_announcement(key: SigningKey, chain_id: Hash, announcement: ChannelAnnouncement) -> ChannelAnnouncement:
    """The announcement with its node's signature.

    Raises:
        RemoteError: It breaks a limit; nothing is signed.
    """
    check_form(announcement)
    signature = key.sign(Kind.ANNOUNCE_CHANNEL, chain_id, announcement.statement())
    return structs.replace(announcement, signature=signature)


def check_form(announcement: ChannelAnnouncement) -> None:
    """Return if all its numbers and lengths are within their limits; costs no verification.

    Raises:
        RemoteError: One is not; it names both numbers.
    """
    _within("sequence", announcement.sequence, 1, MAX_MONEY)
    _length("node", announcement.node, PUBLIC_KEY_BYTES)
    _length("channel", announcement.channel, HASH_BYTES)
    _within("fee_base", announcement.fee_base, 0, MAX_MONEY)
    _within("fee_ppm", announcement.fee_ppm, 0, PPM)
    _within("max_amount", announcement.max_amount, 0, MAX_MONEY)
    _within("min_amount", announcement.min_amount, 1, MAX_MONEY)
    _within("margin_ms", announcement.margin_ms, 0, MAX_MARGIN_MS)
    if announcement.hint is not None:
        _within("hint", announcement.hint, 0, HINT_STEPS)


def check_signature(chain_id: Hash, announcement: ChannelAnnouncement) -> None:
    """Return if its node signed it for this chain.

    Raises:
        RemoteError: It did not.
    """
    kind, statement = Kind.ANNOUNCE_CHANNEL, announcement.statement()
    if not verify(announcement.node, announcement.signature, kind, chain_id, statement):
        raise RemoteError(f"an announcement is not signed by {announcement.node.hex()}, which it names")


def fee_units(fee_base: int, fee_ppm: int, amount: int) -> int:
    """What forwarding `amount` minor units costs: base, and the proportional part rounded up."""
    return fee_base + -(-amount * fee_ppm // PPM)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RemoteError(f"an announcement's {name} is {value}; it is from {least} to {most}")


def _length(name: str, value: bytes, wanted: int) -> None:
    if len(value) != wanted:
        raise RemoteError(f"an announcement's {name} has {len(value)} bytes, not {wanted}")
