"""Wedge and report: the watch against stale reports, as pure functions from record to record.

Safety: a group settles on a version at least as high as any certificate that an honest member reported before the
deadline, and no member loses its bond unless a signature of its own proves a lie.

A certificate needs all members, so none is accepted that an honest member did not sign; a lower one never replaces a
higher one (rule 14), and the deadline is fixed by the first wedge. A bond is forfeited only when a claim signed by the
member meets a certificate that it signed too and that the claim denies, or when two headers at one version carry its
signature; an honest member signs neither. Version 0 carries no signature, so it proves nothing.

Source: docs/design/groups.md, rules 8 to 10, 14 and 15.
Deviation: a certificate comes with its body always; revealing it later (rule 12) and the plea (rule 13) are not built
yet. A certificate that is not higher is ignored unread when something else in the report is new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec import structs

from layer1.errors import Refused, check
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Claim,
    DoubleSignature,
    GroupHeader,
    verify_claim,
    verify_state,
)
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.records import Forfeit, Group, Reason, Status
from layer1.ledger.settlement import check_amounts, check_live, settle, short
from layer1.ledger.transactions import Report, Wedge

T = TypeVar("T")


def wedge(group: Group, request: Wedge, clock_ms: int) -> Group:
    """Stop an open group; on a wedged one, report (rule 8).

    Raises:
        Refused: ``group_closed``, ``past_deadline``, ``wrong_group``, ``bad_certificate``, ``bad_body``, ``bad_claim``,
            ``bad_signature``, and for a wedged group what :func:`report` refuses.
    """
    check_live(group, clock_ms)
    certificate, claim = request.certificate, request.claim
    _check_claim_fits(certificate.header, claim)
    if group.status is Status.WEDGED:
        return report(group, Report(group.group_id, certificate, request.body, (claim,)), clock_ms)
    check_claim(group, claim)
    body = request.body
    if body is None:
        raise Refused("not_supported", "the wedge has no body; this release needs it")
    check_certificate(group, certificate, body)
    return structs.replace(
        group,
        status=Status.WEDGED,
        wedged_by=claim.member,
        deadline_ms=clock_ms + group.agreement.challenge_period_ms,  # rule 8: fixed from here on
        certificate=certificate,
        body=body,
        claims=_put(group.claims, claim.member, claim),
    )


def report(group: Group, request: Report, clock_ms: int) -> Group:
    """Bring a higher certificate, claims, or a double signature; settle when all members have claimed.

    Raises:
        Refused: As :func:`wedge`, and ``not_wedged``, ``empty_report``, ``stale_report``, ``claim_stands``,
            ``claim_without_certificate``, ``bad_proof``, ``already_forfeited``.
    """
    check_live(group, clock_ms)  # rule 9: before the deadline only
    if group.status is not Status.WEDGED:
        raise Refused("not_wedged", "the group is open: there is no dispute to report to; wedge it instead")
    _check_report(request)
    after = with_certificate(group, request.certificate, request.body)  # first, so that claims meet it
    after = with_claims(after, request.claims)
    after = with_forfeits(after)
    after = with_double(after, request.double)
    if after is group:
        raise _nothing_new(group, request)
    if None not in after.claims:
        return settle(after, Reason.CLAIMS, clock_ms)  # rule 10
    return after


def with_certificate(group: Group, certificate: Certificate | None, body: Body | None) -> Group:
    """Rules 9 and 14: a higher version replaces, a lower or equal one never does."""
    if certificate is None or body is None or certificate.header.version <= group.version:
        return group
    check_certificate(group, certificate, body)
    return structs.replace(group, certificate=certificate, body=body)


def with_claims(group: Group, claims: Iterable[Claim]) -> Group:
    """Rule 8: a claim counts only with an accepted certificate of version >= its s, and the first one stands [F1]."""
    for claim in claims:
        if 0 <= claim.member < len(group.claims) and group.claims[claim.member] is not None:
            continue
        check_claim(group, claim)
        check(
            claim.version <= group.version,
            "claim_without_certificate",
            f"member {claim.member} claims certificate {claim.version}, the highest accepted is {group.version}; "
            "bring that certificate too",
        )
        group = structs.replace(group, claims=_put(group.claims, claim.member, claim))
    return group


def with_forfeits(group: Group) -> Group:
    """Rule 15: forfeit the bond of each member whose claim the highest accepted certificate proves false.

    It is enough to look at the highest one: if a lower certificate denies a claim, so does every higher one.
    """
    for member, claim in enumerate(group.claims):
        if claim is not None and is_false(claim, group.certificate):
            group = forfeit(group, member)
    return group


def is_false(claim: Claim, certificate: Certificate) -> bool:
    """Rule 15: `certificate` carries the claimant's signature on a version > k, or on another header at version k."""
    if not certificate.signatures:
        return False  # version 0 is signed by nobody
    header, highest = certificate.header, claim.highest
    return header.version > highest.version or (header.version == highest.version and header != highest)


def with_double(group: Group, double: DoubleSignature | None) -> Group:
    """Rule 15: forfeit the bond of a member that signed two headers at one version."""
    if double is None:
        return group
    check_double(group, double)
    return forfeit(group, double.member)


def forfeit(group: Group, member: int) -> Group:
    """Rule 15: at most one forfeit per member and epoch."""
    if group.forfeits[member] is not None:
        return group
    return structs.replace(group, forfeits=_put(group.forfeits, member, Forfeit.LIE))


def check_certificate(group: Group, certificate: Certificate, body: Body) -> None:
    """Refuse a certificate that not all members signed, and a body that is not its own or does not add up."""
    header, agreement = certificate.header, group.agreement
    _check_header(group, header, "bad_certificate")
    if header.version == 0:
        genuine = certificate == Certificate(group.origin, ())
        check(genuine, "bad_certificate", "version 0 is the agreement's own allocation, without signatures")
    else:
        _check_signatures(group, certificate)
    check(
        body.hash == header.body_hash,
        "bad_body",
        f"the body's hash is {body.hash.hex()}, not the certified {short(header.body_hash)}",
    )
    check_amounts(agreement, body.balances, "bad_body")
    size, most = len(body.machine_state), agreement.limits.max_state_bytes
    check(size <= most, "bad_body", f"the machine state has {size} bytes; the members agreed on {most} at most")


def check_claim(group: Group, claim: Claim) -> None:
    """Refuse a claim that no honest member of this group would sign, or that its member did not sign."""
    members, agreement = group.agreement.members, group.agreement
    right = claim.group_id == group.group_id and claim.epoch == group.epoch
    check(right, "bad_claim", "the claim is of another group or epoch; a claim serves the one that it names")
    check(
        0 <= claim.member < len(members),
        "bad_claim",
        f"member {claim.member} of {len(members)} claims; the first is 0",
    )
    _check_header(group, claim.highest, "bad_claim")
    s, k = claim.version, claim.highest.version
    check(s >= 0 and k in {s, s + 1}, "bad_claim", f"the claim is of s = {s} and k = {k}; k is s or s + 1")
    if k == 0:
        check(claim.highest == group.origin, "bad_claim", "k is 0, but the header is not the one of version 0")
    good = verify_claim(members[claim.member], agreement.chain_id, claim)
    check(
        good,
        "bad_signature",
        f"the claim's signature is not by {members[claim.member].key.hex()}",
    )


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


def _check_header(group: Group, header: GroupHeader, code: str) -> None:
    names = (header.chain_id, header.group_id, header.epoch)
    right = names == (group.agreement.chain_id, group.group_id, group.epoch)
    check(right, code, f"a header is of another chain, group or epoch than {group.group_id.hex()}, epoch {group.epoch}")
    version = header.version
    check(0 <= version <= MAX_MONEY, code, f"a header is of version {version}; versions are from 0 to {MAX_MONEY}")


def _check_signatures(group: Group, certificate: Certificate) -> None:
    members, signatures = group.agreement.members, certificate.signatures
    count, needed = len(signatures), len(members)
    check(count == needed, "bad_certificate", f"{count} signatures for {needed} members; all must sign")
    for i, (member, signature) in enumerate(zip(members, signatures, strict=True)):
        good = verify_state(member, certificate.header, signature)
        check(good, "bad_signature", f"signature {i} of the certificate is not by member {i}'s key {member.key.hex()}")


def _check_claim_fits(certified: GroupHeader, claim: Claim) -> None:
    """Rule 8: who wedges brings its newest certificate, so its claim is of that one."""
    s, version = claim.version, certified.version
    check(s == version, "bad_claim", f"the claim is of certificate {s}, the wedge carries {version}; send that one")
    other = claim.highest.version == version and claim.highest != certified
    check(not other, "bad_claim", f"the claim's header at version {version} is not the certified one")


def _check_report(request: Report) -> None:
    certificate, body = request.certificate, request.body
    something = certificate is not None or request.claims or request.double is not None
    check(bool(something), "empty_report", "the report has 0 certificates, claims and proofs; bring at least 1")
    check((certificate is None) == (body is None), "bad_body", "a certificate and its body come together, or neither")
    check(not request.concurs and request.delegation is None, "not_supported", "this release takes no such report yet")


def _nothing_new(group: Group, request: Report) -> Refused:
    if request.certificate is not None:
        version = request.certificate.header.version
        return Refused("stale_report", f"version {version} is not above the accepted version {group.version}")
    if request.claims:
        members = ", ".join(str(claim.member) for claim in request.claims)
        return Refused("claim_stands", f"already claimed: member {members}; the first claim of an epoch stands")
    return Refused("already_forfeited", "that member's bond is forfeited already; it is forfeited once in an epoch")


def _put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])
