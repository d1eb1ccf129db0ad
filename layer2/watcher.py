"""The watch against stale reports: what a member tells layer 1, given what layer 1 shows.

Safety: while its host observes layer 1 before each deadline, a member's group settles on its newest certificate or a
higher one, and no claim of it is ever false.

Whatever layer 1 lacks is submitted at each view, so loss and reordering of transactions only cost time. A certificate
above everything that this member knows carries its own signature: then it lost data, and claims nothing [F5].

Source: docs/design/groups.md, rules 8 to 11, 14 and 15.
"""

from __future__ import annotations

from contextlib import suppress

from msgspec.structs import replace

from layer1.errors import LocalError, RemoteError
from layer1.ledger import records as ledger
from layer1.ledger.agreements import Body, GroupHeader
from layer1.ledger.transactions import Plea, Report, Reveal
from layer2 import changing
from layer2.closing import claim, final_payload, wedge_payload
from layer2.committing import commit, commit_oldest
from layer2.events import Effect, Finished, Rejected, Submission, ordinal
from layer2.reconnecting import receive_first
from layer2.records import ChangeSigned
from layer2.recovering import answer_dispute, lose, take_over
from layer2.state import Pending
from layer2.updating import Step, adopt
from layer2.value import Group


def observe(group: Group, shown: ledger.Group, clock_ms: int = 0, salt: bytes = b"", *, claiming: bool = True) -> Step:
    """Answer to what layer 1 shows of this group, believed with proof.

    Args:
        group: This member's side.
        shown: Layer 1's record.
        clock_ms: Ledger clock of the block that proves it, 0 if that is not known.
        salt: 16 fresh random bytes, for the version that may follow.
        claiming: Whether a first claim may be signed now.

    Raises:
        LocalError: It is another group: the caller mixed them up.
    """
    if shown.group_id != group.group_id:
        raise LocalError(f"layer 1's group {shown.group_id.hex()} is not {group.group_id.hex()}")
    if group.closed or group.frozen or shown.epoch < group.epoch:
        return group, []
    if shown.epoch > group.epoch:
        return _enter(group, shown, clock_ms, salt, claiming=claiming)
    if group.change is not None and _is_dead(group.change, shown, clock_ms):
        group, effects = changing.lapse(group, salt if shown.status is ledger.Status.OPEN else b"")
        group, more = observe(group, shown, clock_ms, salt, claiming=claiming)
        return group, effects + more
    match shown.status:
        case ledger.Status.OPEN:
            return _observe_open(group)
        case ledger.Status.WEDGED:
            return _observe_wedged(group, shown, claiming=claiming)
        case ledger.Status.CLOSED:
            return _observe_closed(group, shown)


def _is_dead(change: ChangeSigned, shown: ledger.Group, clock_ms: int) -> bool:
    """Whether layer 1 takes it no more, which still shows the epoch that it would have ended (rule 24)."""
    return shown.status is not ledger.Status.OPEN or clock_ms >= change.terms.expires_ms


def _enter(group: Group, shown: ledger.Group, clock_ms: int, salt: bytes, *, claiming: bool) -> Step:
    """A later epoch: begin it, hear what others have said in it already, then look again."""
    epoch = group.epoch
    group, effects = changing.enter(group, shown)
    if group.left or group.epoch == epoch:
        return group, effects
    for member, message in group.early:
        if message.certificate.header.epoch == group.epoch:
            with suppress(RemoteError):  # who cares for it says it again on a new link
                group, more = receive_first(group, member, message, salt)
                effects += more
    group, more = observe(group, shown, clock_ms, salt, claiming=claiming)
    return group, effects + more


def _observe_open(group: Group) -> Step:
    """What we brought may have been lost: bring it again."""
    change = changing.payload_of(group)
    if change is not None and group.final is None and group.claim is None:
        return group, [Submission(change)]
    final = final_payload(group)
    if final is not None:
        return group, [Submission(final)]
    if group.claim is not None:
        return group, [Submission(wedge_payload(group))]
    if group.plea is not None:
        return group, [Submission(Plea(group.plea))]
    return group, []


def _observe_wedged(group: Group, shown: ledger.Group, *, claiming: bool) -> Step:
    group, effects = _learn(replace(group, ledger=shown), shown)
    body = _body_of(group, shown.certificate.header) if shown.body is None else None
    if body is not None:
        effects.append(Submission(Reveal(group.group_id, body)))  # rule 12
    if shown.revealing is None and claiming and not group.lost and not group.doubts:
        group, more = claim(group)
        effects += more
    group, more = answer_dispute(group, shown, holds_body=body is not None or shown.body is not None)
    effects += more
    if shown.revealing is not None:
        return group, effects  # claims and reports are over: what layer 1 waits for is the body
    report = report_payload(group, shown)
    if report is not None:
        return group, [*effects, Submission(report)]  # first: a forfeit that has happened stands after a FINAL
    final = final_payload(group)
    return group, effects if final is None else [*effects, Submission(final)]


def _body_of(group: Group, header: GroupHeader) -> Body | None:
    """The body of a version that layer 1 may settle on: of each that this member signed and that is not undone."""
    states = [group.best[0], group.state, group.committed, *(version.state for version in group.tail)]
    return next((state.body for state in states if state.header == header), None)


def report_payload(group: Group, shown: ledger.Group) -> Report | None:
    """What layer 1 lacks of what this member has (rules 9, 10 and 15)."""
    state, certificate = group.best
    newer = state.version > shown.version
    claims = () if group.claim is None or shown.claims[group.place.index] is not None else (group.claim,)
    double = group.double if group.double is not None and not shown.forfeited[group.double.member] else None
    if not newer and not claims and double is None:
        return None
    if newer:
        return Report(group.group_id, certificate, state.body, claims, double)
    return Report(group.group_id, None, None, claims, double)


def _learn(group: Group, shown: ledger.Group) -> Step:
    """The highest certificate on layer 1 may complete what we signed, or show that we forgot something."""
    header = shown.certificate.header
    if header in (group.state.header, group.best[0].header) or header.version < group.version:
        return group, []
    if group.pending is not None and header == group.pending.state.header:
        return adopt(group, shown.certificate)
    if shown.body is not None:
        return take_over(group, shown.certificate, shown.body, "layer 1")
    return lose(group, f"layer 1 shows version {header.version}")


def _observe_closed(group: Group, shown: ledger.Group) -> Step:
    """The outcome decides what was pending: nothing else can any more (rule 3 [F2])."""
    me = group.place.index
    waiting = [command.number for command in group.queue if command.member == me]
    group, effects, undone = _decide(replace(group, ledger=shown), shown)
    if group.place.is_primary:
        commands = (command for version in undone for command in version.batch.commands)
        waiting += [command.number for command in commands if command.member == me]
    waiting += [command.number for command in group.outbox]
    text = f"layer 1 closed the group on version {shown.version}, without it"
    effects += [Rejected(number, "group_closed", text) for number in waiting]
    settled = None if shown.reason is ledger.Reason.FINAL else ordinal(shown.epoch, shown.version)
    return replace(group, queue=(), outbox=()), [*effects, Finished(group.group_id, shown.payouts, settled)]


def _decide(group: Group, shown: ledger.Group) -> tuple[Group, list[Effect], tuple[Pending, ...]]:
    """Commit what layer 1 settled on, of what was open here; and which versions it undid.

    FINAL pays on the newest certificate of all who sign it, and leaves nothing signed above.
    """
    effects: list[Effect] = []
    together = shown.reason is ledger.Reason.FINAL
    while group.tail and (together or group.tail[0].state.version <= shown.version):
        group, more = commit_oldest(group)
        effects += more
    tail, pending = group.tail, group.pending
    group = replace(group, pending=None, tail=(), base=None, state=group.committed)
    if tail:
        return replace(group, signatures=tail[0].propose.parent_signatures), effects, (*tail, *_one(pending))
    if pending is None or together or shown.certificate.header != pending.state.header:
        return group, effects, _one(pending)
    before = group.state
    group = replace(group, state=pending.state, signatures=shown.certificate.signatures)
    group, more = commit(group, pending, before)
    return group, effects + more, ()


def _one(pending: Pending | None) -> tuple[Pending, ...]:
    return () if pending is None else (pending,)
