"""What a watchtower signs, and the proof that it did not keep it.

*Safety:* nobody can show that a tower broke a receipt which reports every dispute that begins after it.

A receipt says: "I hold version v of this group and epoch, and if the group settles at the end of a challenge period
that begins after ledger clock `clock_ms` and is over by `until_ms`, it settles on v or a higher version." A group that
closed on a lower version, at the deadline of such a dispute, breaks it. The tower had a whole challenge period then,
so what excuses it is what excuses an honest member: layer 1 out of reach for all that time (rule 19). The record of a
closed group never changes, so its proof does not age; whoever checks it needs the genesis and nothing else.

A group that all members ended themselves, by FINAL or by claims of all, breaks no receipt.

Source: docs/design/groups.md, rules 9, 11, 17 and 18; decision 032.
"""

from __future__ import annotations

from msgspec import structs

from layer1.codec import Struct, encode
from layer1.crypto import Hash, Kind, PublicKey, SigningKey, format_address, verify
from layer1.errors import Refused, RemoteError, check
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import Group, Reason, Status
from layer1.proof import GroupProof, Handover, Trust, Verified, verify_group


class TowerReceipt(Struct, tag=3):
    """A watchtower's word that it holds a version and will report it."""

    tower: PublicKey
    """Identity of its links, which signs this."""
    group_id: Hash
    epoch: int
    version: int
    header: Hash
    """Of the certified state."""
    clock_ms: int
    """Ledger clock that was proven to the tower when it signed: disputes that begin later are covered."""
    until_ms: int
    """Ledger clock: disputes that end later are not covered. The customer asks for a new receipt in good time."""
    signature: bytes
    """Kind RECEIPT, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode((self.tower, self.group_id, self.epoch, self.version, self.header, self.clock_ms, self.until_ms))


class BrokenPromise(Struct, tag="broken-promise/1"):
    """A receipt, and the end of its group on layer 1: proof that the tower did not do what it promised."""

    receipt: TowerReceipt
    group: GroupProof
    handovers: tuple[Handover, ...]
    """Of layer 1, from its genesis to the epoch of the proof."""


def sign_receipt(key: SigningKey, chain_id: Hash, receipt: TowerReceipt) -> TowerReceipt:
    """The receipt with the tower's signature. Only for what is durable."""
    return structs.replace(receipt, signature=key.sign(Kind.RECEIPT, chain_id, receipt.statement()))


def verify_receipt(chain_id: Hash, receipt: TowerReceipt) -> bool:
    """Whether the tower that it names signed it."""
    return verify(receipt.tower, receipt.signature, Kind.RECEIPT, chain_id, receipt.statement())


def check_broken(chain_id: Hash, receipt: TowerReceipt, group: Group) -> None:
    """Return if `group`, as layer 1 shows it at its end, breaks `receipt`.

    Raises:
        Refused: ``bad_receipt``, or ``kept``: the text says why the tower is not to blame.
    """
    check(verify_receipt(chain_id, receipt), "bad_receipt", "the receipt is not signed by the tower that it names")
    same = (receipt.group_id, receipt.epoch) == (group.group_id, group.epoch)
    check(same, "kept", f"the receipt is of epoch {receipt.epoch} of another group, or the group went on to another")
    ended = group.status is Status.CLOSED and group.reason is Reason.DEADLINE
    check(ended, "kept", f"the group is {group.status}, by {group.reason}: only the end of a dispute breaks a receipt")
    settled, promised = group.version, receipt.version
    check(settled < promised, "kept", f"the group settled on version {settled}, the receipt is of {promised}")
    began_ms, ended_ms = window(group)
    check(
        receipt.clock_ms <= began_ms,
        "kept",
        f"the tower signed at clock {receipt.clock_ms}, and the dispute had begun at {began_ms}",
    )
    check(ended_ms <= receipt.until_ms, "kept", f"the dispute ended at {ended_ms}, the receipt at {receipt.until_ms}")


def window(group: Group) -> tuple[int, int]:
    """When a wedged group's dispute began, and when it ended at the latest, on the ledger clock.

    A plea makes it twice as long. The time in which a body is awaited comes after it: no report counts then.
    """
    began_ms, agreement = group.wedged_clock_ms, group.agreement
    if began_ms is None:
        raise Refused("kept", "the group was never wedged: nothing was to be reported")
    periods = 2 if any(group.pleas) else 1
    return began_ms, began_ms + periods * (agreement.window_ms or agreement.challenge_period_ms)


def check_proof(genesis: Genesis, proof: BrokenPromise) -> Verified[Group | None]:
    """Check a proof with the genesis alone; what layer 1 showed.

    Raises:
        Refused: ``bad_proof``, ``bad_receipt`` or ``kept``.
    """
    try:
        shown = verify_group(Trust(genesis, proof.handovers), proof.receipt.group_id, proof.group)
    except RemoteError as error:
        raise Refused("bad_proof", f"the record of the group is not proven by this genesis: {error}") from None
    if shown.value is None:
        raise Refused("kept", "layer 1 has no such group")
    check_broken(genesis.chain_id, proof.receipt, shown.value)
    return shown


def describe(receipt: TowerReceipt) -> str:
    """A receipt in a sentence, for people."""
    return (
        f"{format_address(receipt.tower)} holds version {receipt.version} of group {receipt.group_id.hex()[:12]}, "
        f"signed at ledger clock {receipt.clock_ms} ms, good until {receipt.until_ms} ms"
    )
