"""Wedge, plea, report and reveal: the watch against stale reports, as pure functions from record to record.

Safety: a group settles on a version at least as high as any certificate that an honest member reported before the
deadline, and no member loses its bond unless a signature of its own proves a lie, or it let a period pass in which a
member that lost data had asked for what it holds.

A certificate needs all members, so none is accepted that an honest member did not sign; a lower one never replaces a
higher one (rule 14), and the deadline is fixed by the first wedge and the first plea. A bond is forfeited for a lie
only when a claim signed by the member meets a certificate that it signed too and that the claim denies, or when two
headers at one version carry its signature; an honest member signs neither. Version 0 carries no signature, so it
proves nothing. In a witnessed group of 2f + 1, f + 1 that claim have an honest one among them, and what was committed
all of them hold: so no clock is needed.

Source: docs/design/groups.md, rules 8 to 15, 17 and "Witnessed groups"; decision 030.
Deviation: a certificate that is not higher is ignored unread when something else in the report is new.
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
    Concur,
    Delegation,
    DoubleSignature,
    GroupHeader,
    PleaForData,
)
from layer1.ledger.records import Delegate, Forfeit, Group, Reason, Status
from layer1.ledger.settlement import check_live, settle
from layer1.ledger.transactions import Report, Wedge
from layer1.ledger.words import (
    check_body,
    check_certificate,
    check_claim,
    check_concur,
    check_delegation,
    check_double,
    check_plea,
)

T = TypeVar("T")


def wedge(group: Group, request: Wedge, clock_ms: int) -> Group:
    """Stop an open group; on a wedged one, report (rule 8).

    Raises:
        Refused: ``group_closed``, ``past_deadline``, ``wrong_group``, ``bad_certificate``, ``bad_body``, ``bad_claim``,
            ``bad_signature``, ``bad_proof``, and for a wedged group what :func:`report` refuses.
    """
    check_live(group, clock_ms)
    certificate, body, claim = request.certificate, request.body, request.claim
    _check_claim_fits(certificate.header, claim)
    if group.status is Status.WEDGED:
        return report(group, Report(group.group_id, certificate, body, (claim,), request.double), clock_ms)
    check_claim(group, claim)
    members = len(group.agreement.members)
    check(
        claim.member < members, "bad_claim", f"place {claim.member} is a witness; one of the {members} members wedges"
    )
    check_certificate(group, certificate)
    if body is not None:
        check_body(group, certificate.header, body)
    elif certificate.header.version == 0:
        body = group.body  # the agreement's own
    wedged = structs.replace(
        _stopped(group, claim.member, clock_ms, periods=1),
        certificate=certificate,
        body=body,
        claims=_put(group.claims, claim.member, claim),
    )
    return with_double(wedged, request.double)


def plead(group: Group, plea: PleaForData, clock_ms: int) -> Group:
    """Rule 13: stop a group, or join its dispute, as a member that may have lost data. The period is doubled, once.

    While the group waits for its body, pleading is how a member that has lost it says so (rule 12).

    Raises:
        Refused: ``group_closed``, ``past_deadline``, ``bad_plea``, ``bad_signature``, ``claim_stands``,
            ``plea_stands`` or ``already_forfeited``.
    """
    check_live(group, clock_ms)
    check_plea(group, plea)
    member = plea.member
    check(group.claims[member] is None, "claim_stands", f"member {member} has claimed: it said what it holds")
    check(not group.pleas[member], "plea_stands", f"member {member} has pleaded already; once in an epoch is enough")
    lost = group.forfeits[member] is not None
    check(not lost, "already_forfeited", f"member {member} has forfeited its bond; it is owed no answer")
    if group.status is Status.OPEN:
        group = _stopped(group, member, clock_ms, periods=2)
    elif group.revealing is None:
        group = _doubled(group)
    else:
        check(group.deadline_ms is not None, "past_deadline", "the time to reveal or to plead is over; reveal the body")
    return structs.replace(group, pleas=_put(group.pleas, member, True))


def report(group: Group, request: Report, clock_ms: int) -> Group:
    """Bring a higher certificate, claims, concurs, or a double signature; settle when enough have spoken.

    Raises:
        Refused: As :func:`wedge`, and ``not_wedged``, ``dispute_over``, ``empty_report``, ``stale_report``,
            ``claim_stands``, ``claim_without_certificate``, ``plea_stands``, ``bad_concur``, ``wrong_version``,
            ``bad_delegation``, ``bad_proof``, ``already_forfeited``.
    """
    check_live(group, clock_ms)  # rule 9: before the deadline only
    if group.status is not Status.WEDGED:
        raise Refused("not_wedged", "the group is open: there is no dispute to report to; wedge it instead")
    if group.revealing is not None:
        raise Refused("dispute_over", f"the dispute ended on version {group.version}; what is missing is its body")
    _check_report(request)
    after = with_certificate(group, request.certificate, request.body)  # first, so that all else meets it
    after = with_claims(after, request.claims)
    after = with_concurs(after, request.concurs)
    after = with_delegation(after, request.delegation, request.certificate)
    after = with_forfeits(after)
    after = with_double(after, request.double)
    if after is group:
        raise _nothing_new(group, request)
    return settle(after, Reason.CLAIMS, clock_ms) if has_ended(after) else after


def reveal(group: Group, body: Body, clock_ms: int) -> Group:
    """Rule 12: bring the body of the highest accepted certificate. If the dispute is over, that settles it.

    Raises:
        Refused: ``group_closed``, ``past_deadline``, ``not_wedged``, ``body_known`` or ``bad_body``.
    """
    check_live(group, clock_ms)
    check(group.status is Status.WEDGED, "not_wedged", "the group is open: its members know their state; wedge it")
    check(group.body is None, "body_known", f"the body of version {group.version} is known already")
    check_body(group, group.certificate.header, body)
    group = structs.replace(group, body=body)
    return group if group.revealing is None else settle(group, group.revealing, clock_ms)


def has_ended(group: Group) -> bool:
    """Rule 10: all members have claimed or concurred. Witnessed: f + 1 of 2f + 1 have sent claims that count."""
    claimed = [claim is not None for claim in group.claims]
    members = len(group.agreement.members)
    if group.agreement.witnesses:
        return sum(claimed) >= members  # f + 1, as many as there are members
    return all(one or other for one, other in zip(claimed, group.concurs, strict=True))


def with_certificate(group: Group, certificate: Certificate | None, body: Body | None) -> Group:
    """Rules 9 and 14: a higher version replaces, a lower or equal one never does. It may bring the missing body."""
    if certificate is None or certificate.header.version < group.version:
        return group
    if certificate.header.version == group.version:
        if body is None or group.body is not None or certificate.header != group.certificate.header:
            return group
        check_body(group, group.certificate.header, body)
        return structs.replace(group, body=body)
    check_certificate(group, certificate)
    if body is not None:
        check_body(group, certificate.header, body)
    nobody = (False,) * len(group.concurs)  # who concurred, did so with another version
    return structs.replace(group, certificate=certificate, body=body, concurs=nobody)


def with_claims(group: Group, claims: Iterable[Claim]) -> Group:
    """Rule 8: a claim counts only with an accepted certificate of version >= its s, and the first one stands [F1]."""
    for claim in claims:
        if 0 <= claim.member < len(group.claims) and group.claims[claim.member] is not None:
            continue
        check_claim(group, claim)
        pleaded = claim.member < len(group.pleas) and group.pleas[claim.member]
        check(not pleaded, "plea_stands", f"member {claim.member} has pleaded: a plea is no claim, and bars one")
        check(
            claim.version <= group.version,
            "claim_without_certificate",
            f"place {claim.member} claims certificate {claim.version}, the highest accepted is {group.version}; "
            "bring that certificate too",
        )
        group = structs.replace(group, claims=_put(group.claims, claim.member, claim))
    return group


def with_concurs(group: Group, concurs: Iterable[Concur]) -> Group:
    """Rule 10: who may make no claim agrees to the highest accepted version; a witnessed group settles on claims."""
    for concur in concurs:
        check(not group.agreement.witnesses, "bad_concur", "a witnessed group settles on claims: nobody concurs there")
        check_concur(group, concur)
        if group.claims[concur.member] is None and not group.concurs[concur.member]:
            group = structs.replace(group, concurs=_put(group.concurs, concur.member, True))
    return group


def with_delegation(group: Group, delegation: Delegation | None, certificate: Certificate | None) -> Group:
    """Rule 17: the first delegate of a member that brings the highest accepted version is the one that reported.

    It may be the version that somebody else brought first: else whoever copies a report and is quicker would rob the
    delegate of its bounty, and the member of its answer to a plea.
    """
    if delegation is None or certificate is None or certificate.header != group.certificate.header:
        return group
    check_delegation(group, delegation)
    before = group.delegates[delegation.member]
    if before is not None and before.version == group.version:
        return group
    found = Delegate(delegation.payout, delegation.bounty, group.version)
    return structs.replace(group, delegates=_put(group.delegates, delegation.member, found))


def with_forfeits(group: Group) -> Group:
    """Rule 15: forfeit the bond of each member whose claim the highest accepted certificate proves false.

    It is enough to look at the highest one: if a lower certificate denies a claim, so does every higher one. Witnesses
    post no bond [F4].
    """
    for member, claim in enumerate(group.claims[: len(group.forfeits)]):
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


def _stopped(group: Group, member: int, clock_ms: int, periods: int) -> Group:
    """Rule 8: the deadline is fixed from here on, if the group has one; the first plea alone doubles it (rule 13)."""
    window = group.agreement.window_ms
    deadline = None if window is None else clock_ms + periods * window
    return structs.replace(
        group, status=Status.WEDGED, wedged_by=member, wedged_clock_ms=clock_ms, deadline_ms=deadline
    )


def _doubled(group: Group) -> Group:
    window = group.agreement.window_ms
    if any(group.pleas) or group.deadline_ms is None or window is None:
        return group
    return structs.replace(group, deadline_ms=group.deadline_ms + window)


def _check_claim_fits(certified: GroupHeader, claim: Claim) -> None:
    """Rule 8: who wedges brings its newest certificate, so its claim is of that one."""
    s, version = claim.version, certified.version
    check(s == version, "bad_claim", f"the claim is of certificate {s}, the wedge carries {version}; send that one")
    other = claim.highest.version == version and claim.highest != certified
    check(not other, "bad_claim", f"the claim's header at version {version} is not the certified one")


def _check_report(request: Report) -> None:
    certificate, words = request.certificate, (*request.claims, *request.concurs)
    something = certificate is not None or words or request.double is not None
    check(bool(something), "empty_report", "the report has 0 certificates, claims, concurs and proofs; bring 1 or more")
    check(certificate is not None or request.body is None, "bad_body", "a body comes with its certificate, or alone")
    alone = certificate is None and request.delegation is not None
    check(not alone, "bad_delegation", "a delegation comes with the certificate that is reported, this report has 0")


def _nothing_new(group: Group, request: Report) -> Refused:
    if request.certificate is not None:
        version = request.certificate.header.version
        return Refused("stale_report", f"version {version} is not above the accepted version {group.version}")
    if request.claims or request.concurs:
        spoken = [claim.member for claim in request.claims] + [concur.member for concur in request.concurs]
        members = ", ".join(map(str, spoken))
        return Refused("claim_stands", f"already spoken: member {members}; the first claim of an epoch stands")
    return Refused("already_forfeited", "that member's bond is forfeited already; it is forfeited once in an epoch")


def _put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])
