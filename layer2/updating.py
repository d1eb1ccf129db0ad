"""Updating: the primary proposes what is queued, everybody signs (rules 1 to 4).

Safety: no member ever signs two bodies at one version, and none says committed before it durably holds the certificate
(and, in a witnessed group, before it knows that everybody does: `layer2.committing`).

A member signs version s + 1 only on Cert(s), and remembers the signature before it sends it. A certificate needs every
member, so a version has at most one. What is committed is certified, and a higher certificate descends from it.

Source: docs/design/groups.md, rules 1 to 4. A member whose own signature is the last that it lacked, as always in a
pair, holds the certificate with it: its record of the signature is that of the certificate, and it needs no `Commit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Signature
from layer1.errors import RemoteError, check
from layer1.ledger.agreements import Certificate, DoubleSignature, GroupHeader, sign_state, verify_state
from layer2.committing import (
    acknowledge,
    certified,
    in_window,
    learn,
    note,
    note_signed,
    proof,
    relay,
    settle_tail,
)
from layer2.events import Advice, Blamed, Effect, LookNow, Persist, Rejected, Send
from layer2.guarding import UNSURE, check_others, check_own, is_in_doubt, locks_text, shown_preimages
from layer2.holding import send_hold
from layer2.messages import (
    MAX_COMMAND_BYTES,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    Accept,
    Batch,
    Command,
    Commit,
    Propose,
    Resume,
    Submit,
    require,
)
from layer2.records import Certified, Signed
from layer2.state import TAG_BYTES, Pending, State, advance, build_batch, encode_batch, follow
from layer2.value import Group

Step = tuple[Group, list[Effect]]


def send_commands(group: Group, payloads: tuple[bytes, ...], salt: bytes) -> Step:
    """Number our commands and bring them to the primary, which may be us (rule 1).

    Raises:
        Refused: ``not_connected``, ``too_many``, ``too_large``, or why the group has stopped. None has a number then.
    """
    if group.stopped is not None:
        raise group.stopped
    check(not group.closing, "group_closing", "the group is being closed: open another")
    text = "the group is being changed: try again in a moment"
    check(group.change is None and not group.settled_wish, "group_changing", text)
    check(group.connected, "not_connected", "another member is not connected: wait for it, or pay on another way")
    waiting, spare = _room(group, group.place.index, payloads)
    check(waiting <= MAX_QUEUED, "too_many", f"{waiting} commands would wait; {MAX_QUEUED} at most: slow down")
    check(spare >= 0, "too_many", f"{-spare} bytes too many would wait; {MAX_QUEUED_BYTES} at most: slow down")
    largest = max(map(len, payloads), default=0)
    check(largest <= MAX_COMMAND_BYTES, "too_large", f"a command of {largest} bytes; at most {MAX_COMMAND_BYTES}")
    if group.locks:
        check_own(group, payloads)
    place, first = group.place, group.next_number
    group = replace(group, next_number=first + len(payloads), spare_bytes=_spare(group, group.place.index, spare))
    if place.is_primary:
        commands = tuple(Command(0, number, payload, b"") for number, payload in enumerate(payloads, first))
        return propose(replace(group, queue=group.queue + commands), salt)
    index, tag = place.index, place.tag
    commands = tuple(
        Command(index, number, payload, tag(number, payload)) for number, payload in enumerate(payloads, first)
    )
    return replace(group, outbox=group.outbox + commands), [Send(0, Submit(place.group_id, commands))]


def receive_submit(group: Group, member: int, message: Submit, salt: bytes) -> Step:
    """At the primary: queue what is new."""
    require(group.place.is_primary, f"member {member} submits to member {group.place.index}, who is not the primary")
    if group.stopped is not None or group.closing:
        return group, []
    last = _last_number(group, member)
    for command in message.commands:
        _check_command(command, member)
    for before, after in pairwise(message.commands):
        require(before.number < after.number, f"command {after.number} of member {member} follows {before.number}")
    fresh = tuple(command for command in message.commands if command.number > last)
    waiting, spare = _room(group, member, [command.payload for command in fresh])
    require(waiting <= MAX_QUEUED, f"member {member} lets {waiting} commands wait; {MAX_QUEUED} at most")
    require(spare >= 0, f"member {member} lets {-spare} bytes too many wait; {MAX_QUEUED_BYTES} at most")
    if fresh:
        newest, most = fresh[-1].number, last + MAX_QUEUED
        require(newest <= most, f"member {member} numbers a command {newest}; at most {most} after {last}")
    shown = shown_preimages(group, fresh)
    group, effects = propose(replace(group, queue=group.queue + fresh, spare_bytes=_spare(group, member, spare)), salt)
    return group, shown + effects


def look_again(group: Group) -> Step:
    """More is known of layer 1: answer the proposal that was in doubt, if it is none any more."""
    doubted, group = group.doubted, replace(group, doubted=None)
    if doubted is None or group.stopped is not None:
        return group, []
    group, effects = answer_late(group, doubted)
    return group, [effect for effect in effects if group.doubted is None or not isinstance(effect, LookNow)]


def answer_late(group: Group, message: Propose) -> Step:
    """Answer a proposal that waited. If it is wrong its sender is blamed, and what was learned meanwhile stays known.

    A step that failed as a whole would fail at each look, and leave this member with the clock of before.
    """
    try:
        return receive_propose(group, 0, message)
    except RemoteError as error:
        return keep_proof(group, error), [Blamed(0, error)]


def keep_proof(group: Group, error: RemoteError) -> Group:
    """Keep the proof of a double signature that an error carries: layer 1 may want it (rule 15)."""
    proof = next((each for each in error.evidence if isinstance(each, DoubleSignature)), None)
    return group if proof is None else replace(group, double=proof)


def propose(group: Group, salt: bytes) -> Step:
    """Sign the next version, if there is something to do and nothing in flight (rules 1 and 4)."""
    idle = group.place.is_primary and group.pending is None and group.queue and group.connected
    if group.change is not None or group.settled_wish:
        return group, []  # rule 24
    if not idle or group.stopped is not None or group.doubts or not in_window(group):
        return group, []
    place, base = group.place, group.state
    effects: list[Effect] = []
    while True:  # until there is something to sign: what is refused of our own needs no version
        built = build_batch(place, base, group.queue, may=partial(check_others, group))
        if any(refusal.code in UNSURE for refusal in built.batch.refusals):
            effects.append(LookNow())  # its issuer may know more of layer 1, and tries again
        effects.extend(Rejected(each.number, each.code, each.message) for each in built.refused)
        group = replace(group, queue=built.rest)
        if built.batch.commands or built.batch.refusals:
            break
        if not built.rest:
            return group, effects
    encoded = encode_batch(built.batch)
    state = advance(place, base, built.batch, encoded=encoded, salt=salt, outcome=built.outcome)
    signature = sign_state(place.key, state.header)
    message = Propose(state.header, encoded, salt, signature, group.signatures, proof(group))
    signatures = (message.signature, *(None for _ in group.others))
    effects.append(Persist(encode(Signed(message, b""))))
    effects.extend(Send(member, message) for member in group.others)
    return replace(group, pending=Pending(state, message, built.batch, signatures)), effects


def receive_propose(group: Group, member: int, message: Propose) -> Step:
    """Check everything, sign, remember, accept (rule 2)."""
    place = group.place
    require(member == 0 and not place.is_primary, f"member {member} proposes to member {place.index}: the primary does")
    if group.stopped is not None:
        return group, []
    _check_never_twice(group, message.header, message.signature)
    again = _accept_again(group, message)
    if again is not None:
        return group, [again]
    if group.change is not None:  # rule 24: not before we are shown ourselves that it is dead
        return replace(group, held=message), [LookNow()]
    if group.doubts:  # [F5]: not before all whom we asked have shown that nothing newer is signed
        return replace(group, held=message), []
    group, effects = _certify_parent(group, message)
    group, more = _learn_parent(group, message)
    effects += more
    base, header = group.state, message.header
    require(
        header.version == base.version + 1 and message.parent_signatures == group.signatures,
        f"version {header.version} is proposed on version {base.version}, or on another certificate of it",
    )
    state, batch = follow(place, base, message)
    _check_own(group, batch, header.version)
    require(verify_state(place.agreement.members[0], header, message.signature), "the primary's signature is wrong")
    if state.machine_state is not base.machine_state:
        effects += shown_preimages(group, batch.commands)
        if is_in_doubt(group, base, batch):
            return replace(group, doubted=message), [*effects, LookNow()]
    if group.closing and state.body.locks:  # rule 7: they are resolved first, and that takes commands
        group = replace(group, closing=False)
        effects.append(Advice("locks_pending", locks_text(state.body.locks)))
    signature = sign_state(place.key, header)
    signatures = tuple({0: message.signature, place.index: signature}.get(i) for i in range(place.size))
    group = replace(group, pending=Pending(state, message, batch, signatures), doubted=None)
    effects.append(Persist(encode(Signed(message, signature))))
    effects.append(Send(0, Accept(place.group_id, header.version, signature)))
    if None not in signatures:
        group, more = settle_pending(group)
        effects += [*more, *send_hold(group)]
    return group, effects


def receive_held_back(group: Group) -> Step:
    """What the primary proposed while this member could not sign yet."""
    if group.held is None or group.doubts or group.change is not None:
        return group, []
    return answer_late(replace(group, held=None), group.held)


def receive_accept(group: Group, member: int, message: Accept, salt: bytes) -> Step:
    """At the primary: with all signatures, persist them, then say committed (rule 3)."""
    require(group.place.is_primary, f"member {member} accepts to member {group.place.index}, who is not the primary")
    if group.version == message.version and group.signatures and group.signatures[member] == message.signature:
        return group, []  # sent twice
    pending = group.pending
    if pending is None or pending.state.version != message.version:
        require(False, f"member {member} accepts version {message.version}, in flight is none or another")
        return group, []
    good = verify_state(group.place.agreement.members[member], pending.state.header, message.signature)
    require(good, f"member {member}'s signature of version {message.version} is wrong")
    if pending.signatures[member] is not None:
        return group, []
    signatures = tuple(message.signature if i == member else s for i, s in enumerate(pending.signatures))
    group = note_signed(replace(group, pending=replace(pending, signatures=signatures)), member, message.version)
    return certify(group, salt) if None not in signatures else go_on(group, salt)


def receive_commit(group: Group, member: int, message: Commit) -> Step:
    """At a member: the certificate of what it signed (rule 3)."""
    if member in group.bereft:
        return group, []  # it lost data: what it completes of an older version tells us nothing
    require(member == 0 and not group.place.is_primary, f"member {member} sends a Commit: the primary does")
    certificate, effects = message.certificate, list[Effect]()
    if certificate != group.certificate:
        group, effects = adopt(group, certificate)
    group, more = settle_tail(note(group, 0, certificate.header.version))
    return group, effects + more


def adopt(group: Group, certificate: Certificate, *, answered: bool = False) -> Step:
    """Hold a certificate of the version that this member has signed.

    Args:
        group: This member's side.
        certificate: As received.
        answered: An `Accept` follows, which is its ACK.

    Raises:
        RemoteError: It is of another header, or a signature is wrong.
    """
    pending = group.pending
    if pending is None or pending.state.header != certificate.header:
        require(False, f"a certificate of version {certificate.header.version} that this member has not signed")
        return group, []
    check_certificate(group, certificate, known=pending.signatures)
    return certify(replace(group, pending=replace(pending, signatures=certificate.signatures)), b"", answered=answered)


def certify(group: Group, salt: bytes, *, answered: bool = False) -> Step:
    """All signatures of the pending version are here: persist, then commit or ask for ACKs, then go on (rule 3)."""
    assert group.pending is not None
    signatures = tuple(s for s in group.pending.signatures if s is not None)
    version = group.pending.state.version
    effects: list[Effect] = [Persist(encode(Certified(group.group_id, version, signatures)))]
    waited = group.tail
    group, more = settle_pending(group)
    effects += more
    if group.version != version:
        return group, effects  # after a CLAIM [F2]: nothing is ACKed either [F3]
    effects += send_hold(group)
    if not group.place.is_primary:
        return group, effects if answered else effects + acknowledge(group)
    after, more = propose(group, salt) if salt else (group, [])
    if group.place.primary_relays and after.pending is None:
        told = (member for member in group.others if member not in group.doubts)  # else our Resume will say so
        effects.extend(Send(member, Commit(group.certificate)) for member in told)
        effects += relay(group) if waited else []
    return after, effects + more


def go_on(group: Group, salt: bytes) -> Step:
    """More is known of who holds what: commit what all hold; at the primary propose what may be, or pass it on."""
    waited = group.tail
    group, effects = settle_tail(group)
    if group.tail == waited:
        return group, effects
    after, more = propose(group, salt)
    return after, effects + (more if after.pending is not group.pending else relay(after))


def settle_pending(group: Group) -> Step:
    """Make the pending version, all of whose signatures are here and durable, the newest; commit it, unless [F2]."""
    assert group.pending is not None
    if group.has_spoken:
        return group, []  # rule 3: after a CLAIM or a plea nothing becomes committed except by layer 1
    return certified(group, group.pending)


def resume(group: Group) -> Resume:
    """Where this member stands: the first message on every link, and in every epoch."""
    if group.pending is None:
        return Resume(group.group_id, group.certificate)
    header, signature = group.pending.state.header, group.pending.signatures[group.place.index]
    proposal = None if group.place.is_primary else group.pending.propose.signature
    return Resume(group.group_id, group.certificate, header, signature, proposal)


def drop_unsigned(group: Group, code: str, text: str) -> Step:
    """Our commands that no version we signed holds are dead, for we sign no other version."""
    me = group.place.index
    signed = (group.pending.state if group.pending is not None else group.state).body.applied[me]
    waiting = group.queue if group.place.is_primary else group.outbox
    dead = [command.number for command in waiting if command.member == me and command.number > signed]
    kept = tuple(command for command in group.outbox if command.number <= signed)
    return replace(group, queue=(), outbox=kept), [Rejected(number, code, text) for number in dead]


def check_certificate(group: Group, certificate: Certificate, known: Sequence[Signature | None] = ()) -> None:
    """Raise RemoteError unless all members signed it, for this group.

    Args:
        group: This member's side.
        certificate: As received.
        known: Per member, a signature of this header that was verified before; none for no member.
    """
    members, header = group.place.agreement.members, certificate.header
    ours = group.state.header
    named = (header.chain_id, header.group_id, header.epoch) == (ours.chain_id, ours.group_id, ours.epoch)
    require(named, "a certificate of another chain, group or epoch")
    count = len(certificate.signatures)
    require(count == len(members), f"a certificate with {count} signatures of {len(members)}")
    for index, (each, signature) in enumerate(zip(members, certificate.signatures, strict=True)):
        good = (known and signature == known[index]) or verify_state(each, header, signature)
        require(good, f"member {index}'s signature in the certificate is wrong")


def known_signature(group: Group, member: int, version: int) -> tuple[GroupHeader, bytes] | None:
    """What `member` signed at `version`, as far as it is still here."""
    if version == group.version and group.signatures:
        return group.state.header, group.signatures[member]
    if group.pending is not None and version == group.pending.state.version:
        signature = group.pending.signatures[member]
        return None if signature is None else (group.pending.state.header, signature)
    return None


def check_not_double(group: Group, member: int, header: GroupHeader, signature: bytes) -> None:
    """Raise RemoteError, with the proof, if `member` signed another header at this version (rule 15).

    What layer 1 would not take as a proof is kept as none: it would hold back the report that it came with.
    """
    known = known_signature(group, member, header.version)
    if known is None or known[0] == header:
        return
    require(header.well_formed, f"a header at version {header.version} with hashes that are none")
    if verify_state(group.place.agreement.members[member], header, signature):
        proof = DoubleSignature(member, known[0], known[1], header, signature)
        require(False, f"member {member} signed two headers at version {header.version}", proof)
    require(False, f"another header at version {header.version}, and member {member}'s signature of it is wrong")


def _check_never_twice(group: Group, header: GroupHeader, signature: bytes) -> None:
    """Rule 5: never sign two bodies at one version."""
    ours = group.state.header
    named = (header.chain_id, header.group_id, header.epoch) == (ours.chain_id, ours.group_id, ours.epoch)
    require(named, "a proposal of another chain, group or epoch")
    check_not_double(group, 0, header, signature)


def _accept_again(group: Group, message: Propose) -> Effect | None:
    """Rule 5: the identical Accept, if the proposal was signed before."""
    known = known_signature(group, group.place.index, message.header.version)
    if known is None or known[0] != message.header:
        return None
    return Send(0, Accept(group.group_id, message.header.version, known[1]))


def _certify_parent(group: Group, message: Propose) -> Step:
    """The next proposal brings the certificate of the version before it to who waits for that."""
    pending = group.pending
    if pending is None or message.header.version != pending.state.version + 1:
        return group, []
    return adopt(group, Certificate(pending.state.header, message.parent_signatures), answered=True)


def _learn_parent(group: Group, message: Propose) -> Step:
    """In a witnessed group a proposal proves that all but the version before it are committed (rule 3)."""
    if not group.place.witnessed:
        require(not message.acks, f"{len(message.acks)} ACKs in a group without witnesses")
        return group, []
    group, effects = settle_tail(note(learn(group, message.acks), 0, message.header.version - 1))
    version = message.header.version
    require(in_window(group), f"version {version} is proposed, and not all have acknowledged version {version - 2}")
    return group, effects


def _check_own(group: Group, batch: Batch, version: int) -> None:
    """Rule 2: a member's balance falls only by commands that it issued itself: every one of ours must be ours."""
    me, tag = group.place.index, group.place.tag
    issued = {command.number: command for command in group.outbox}
    for command in batch.commands:
        if command.member != me or issued.get(command.number) == command:
            continue
        own = version == group.foreign_version and command.tag == tag(command.number, command.payload)
        require(own, f"command {command.number} in this member's name is not one that it issued")


def _room(group: Group, member: int, payloads: Sequence[bytes]) -> tuple[int, int]:
    """How many commands of a member would wait here with these, at most, and how many bytes more may, at least.

    Each has a share of its own. All that waits is looked at only when these could be too much: so what one command
    costs does not depend on how many wait.
    """
    size = sum(map(len, payloads))
    waiting = len(payloads) + len(group.queue) + len(group.outbox)
    spare = dict(group.spare_bytes).get(member, 0) - size
    if waiting > MAX_QUEUED or spare < 0:
        own = [command for command in (*group.queue, *group.outbox) if command.member == member]
        waiting, spare = len(payloads) + len(own), MAX_QUEUED_BYTES - _size_of(own) - size
    return waiting, spare


def _spare(group: Group, member: int, spare: int) -> tuple[tuple[int, int], ...]:
    """`Group.spare_bytes` with this for a member."""
    return tuple({**dict(group.spare_bytes), member: spare}.items())


def _size_of(commands: Sequence[Command]) -> int:
    """Bytes of their payloads."""
    return sum(len(command.payload) for command in commands)


def _check_command(command: Command, member: int) -> None:
    require(command.member == member, f"member {member} submits a command of member {command.member}")
    size = len(command.payload)
    require(size <= MAX_COMMAND_BYTES, f"a command of {size} bytes; at most {MAX_COMMAND_BYTES}")
    require(len(command.tag) == TAG_BYTES and command.number > 0, f"a malformed command {command.number}")


def _last_number(group: Group, member: int) -> int:
    """The last number of `member` that this primary has, so that a command sent again is not queued again."""
    for command in reversed(group.queue):
        if command.member == member:
            return command.number
    state: State = group.pending.state if group.pending is not None else group.state
    return state.body.applied[member]
