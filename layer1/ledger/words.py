"""What members and witnesses sign, checked against a group's record: form, names and signatures, not what follows.

Safety: nothing passes that another chain, group, epoch or member was meant by, or that its signer did not sign.

Source: docs/design/groups.md, "Objects" and rules 8 to 17; decision 030.
"""

from __future__ import annotations

from layer1.crypto import HASH_BYTES, PUBLIC_KEY_BYTES
from layer1.errors import check
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Claim,
    Concur,
    Delegation,
    DoubleSignature,
    GroupHeader,
    Member,
    PleaForData,
    locked_units,
    verify_claim,
    verify_concur,
    verify_delegation,
    verify_plea,
    verify_state,
)
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.locks import check_locks
from layer1.ledger.records import Group
from layer1.ledger.settlement import check_amounts, short


def check_certificate(group: Group, certificate: Certificate) -> None:
    """Refuse a certificate that not all members signed; version 0 of the epoch is signed by nobody."""
    _check_header(group, certificate.header, "bad_certificate")
    if certificate.header.version == 0:
        genuine = certificate == Certificate(group.origin, ())
        check(genuine, "bad_certificate", "version 0 is the agreement's own allocation, without signatures")
    else:
        _check_signatures(group, certificate)


def check_body(group: Group, header: GroupHeader, body: Body) -> None:
    """Refuse a body that is not the header's own, or does not add up, or is larger than agreed (rule 12)."""
    hashed = body.hash
    check(
        hashed == header.body_hash,
        "bad_body",
        f"the body's hash is {hashed.hex()}, not the certified {short(header.body_hash)}",
    )
    agreement, locks = group.agreement, body.locks
    check_locks(locks, len(agreement.members), agreement.limits.max_locks, "bad_body")
    check_amounts(agreement, body.balances, "bad_body", locked_units(locks))
    size, most = len(body.machine_state), group.agreement.limits.max_state_bytes
    check(size <= most, "bad_body", f"the machine state has {size} bytes; the members agreed on {most} at most")


def check_claim(group: Group, claim: Claim) -> None:
    """Refuse a claim that no honest member or witness of this group would sign, or that it did not sign."""
    agreement = group.agreement
    right = claim.group_id == group.group_id and claim.epoch == group.epoch
    check(right, "bad_claim", "the claim is of another group or epoch; a claim serves the one that it names")
    members, places = len(agreement.members), agreement.places
    check(0 <= claim.member < places, "bad_claim", f"place {claim.member} of {places} claims; the first is 0")
    _check_header(group, claim.highest, "bad_claim")
    s, k = claim.version, claim.highest.version
    check(s >= 0 and k in {s, s + 1}, "bad_claim", f"the claim is of s = {s} and k = {k}; k is s or s + 1")
    witness = claim.member >= members
    check(not witness or k == s, "bad_claim", f"a witness claims s = {s} and k = {k}; it signs no state, so both agree")
    check(k > 0 or claim.highest == group.origin, "bad_claim", "k is 0, but the header is not the one of version 0")
    who = agreement.witnesses[claim.member - members] if witness else agreement.members[claim.member]
    good = verify_claim(who, agreement.chain_id, claim)
    check(good, "bad_signature", f"the claim's signature is not by {who.key.hex()}")


def check_concur(group: Group, concur: Concur) -> None:
    """Refuse a concur that is not this member's, or not about the highest accepted version."""
    member = _named(group, concur, "bad_concur")
    check(
        concur.version == group.version,
        "wrong_version",
        f"member {concur.member} concurs with version {concur.version}, the highest accepted is {group.version}",
    )
    good = verify_concur(member, group.agreement.chain_id, concur)
    check(good, "bad_signature", f"the concur's signature is not by {member.key.hex()}")


def check_plea(group: Group, plea: PleaForData) -> None:
    """Refuse a plea that is not this member's."""
    member = _named(group, plea, "bad_plea")
    good = verify_plea(member, group.agreement.chain_id, plea)
    check(good, "bad_signature", f"the plea's signature is not by {member.key.hex()}")


def check_delegation(group: Group, delegation: Delegation) -> None:
    """Refuse a delegation that is not this member's, or promises what no account can get."""
    member = _named(group, delegation, "bad_delegation")
    size, bounty = len(delegation.payout), delegation.bounty
    check(size == PUBLIC_KEY_BYTES, "bad_delegation", f"an account of {size} bytes; one has {PUBLIC_KEY_BYTES}")
    check(0 <= bounty <= MAX_MONEY, "bad_delegation", f"a bounty of {bounty} units; it is from 0 to {MAX_MONEY}")
    good = verify_delegation(member, group.agreement.chain_id, delegation)
    check(good, "bad_signature", f"the delegation's signature is not by {member.key.hex()}")


def check_double(group: Group, double: DoubleSignature) -> None:
    """Refuse a proof that does not show two STATE signatures of one member on two headers at one version."""
    members, first, second = group.agreement.members, double.first, double.second
    check(0 <= double.member < len(members), "bad_proof", f"member {double.member} of {len(members)} is accused")
    _check_header(group, first, "bad_proof")
    _check_header(group, second, "bad_proof")
    equal = first.version == second.version
    check(equal, "bad_proof", f"the headers are of versions {first.version} and {second.version}; they must share one")
    check(first != second, "bad_proof", "both headers are the same; two different ones prove a double signature")
    member = members[double.member]
    for header, signature in ((first, double.first_signature), (second, double.second_signature)):
        good = verify_state(member, header, signature)
        check(good, "bad_signature", f"header {header.hash.hex()} is not signed by member {double.member}")


def _named(group: Group, word: Concur | PleaForData | Delegation, code: str) -> Member:
    """The member whose word it is."""
    right = word.group_id == group.group_id and word.epoch == group.epoch
    check(right, code, f"it is of another group or epoch than {group.group_id.hex()}, epoch {group.epoch}")
    members = group.agreement.members
    check(0 <= word.member < len(members), code, f"member {word.member} of {len(members)}; the first is 0")
    return members[word.member]


def _check_header(group: Group, header: GroupHeader, code: str) -> None:
    names = (header.chain_id, header.group_id, header.epoch)
    right = names == (group.agreement.chain_id, group.group_id, group.epoch)
    check(right, code, f"a header is of another chain, group or epoch than {group.group_id.hex()}, epoch {group.epoch}")
    version = header.version
    check(0 <= version <= MAX_MONEY, code, f"a header is of version {version}; versions are from 0 to {MAX_MONEY}")
    for hashed in (header.parent, header.log_root, header.body_hash):  # a claim's header is kept, and one member's word
        check(len(hashed) == HASH_BYTES, code, f"a header with a hash of {len(hashed)} bytes; each has {HASH_BYTES}")


def _check_signatures(group: Group, certificate: Certificate) -> None:
    members, signatures = group.agreement.members, certificate.signatures
    count, needed = len(signatures), len(members)
    check(count == needed, "bad_certificate", f"{count} signatures for {needed} members; all must sign")
    for i, (member, signature) in enumerate(zip(members, signatures, strict=True)):
        good = verify_state(member, certificate.header, signature)
        check(good, "bad_signature", f"signature {i} of the certificate is not by member {i}'s key {member.key.hex()}")
