"""What a member hears of ACKs: from witnesses on its own links, from members at the primary, or passed on by it.

Safety: an ACK counts by its signature alone, for the header that this member holds at that version.

A witness may hold a certificate that this member does not: of the version that it signed last, which it then adopts;
or of one that it does not know, and which it signed all the same, like every member. Then it lost data [F5].

Source: docs/design/groups.md, rule 3 and "Coming back from nothing"; decision 033.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from layer2.committing import Step, learn, relay
from layer2.events import Effect
from layer2.holding import send_hold
from layer2.messages import Ack, Acked, Acks, Held, Hold, require
from layer2.recovering import body_of_held, dispel, first_to_witness, lose, take_over
from layer2.standing import tell_news
from layer2.updating import adopt, check_certificate, go_on, propose, receive_held_back
from layer2.value import Group


def connect(group: Group, witness: int) -> Step:
    """A new link to a witness: show it the newest certificate."""
    group, effects = disconnect(group, witness)
    return group, [*effects, *first_to_witness(group, witness)]


def disconnect(group: Group, witness: int) -> Step:
    """The link to a witness is gone."""
    after = replace(group, in_step=group.in_step - {witness})
    return after, tell_news(group, after, witness) if witness in group.in_step else []


def receive(group: Group, place: int, message: Ack | Acks | Hold | Held, salt: bytes) -> Step:
    """One message about ACKs, of who speaks for `place` on this link.

    Raises:
        RemoteError: A signature is wrong, or it is not for that place to say.
    """
    require(group.place.witnessed, f"place {place} sent {type(message).__name__} in a group without witnesses")
    match message:
        case Ack():
            return _receive_ack(group, place, message, salt)
        case Acks():
            return _receive_acks(group, place, message)
        case Held():
            return _receive_held(group, place, message, salt)
        case Hold():
            require(False, f"member {group.place.index} is no witness: it holds its own certificates")
            raise AssertionError
        case _ as never:
            assert_never(never)


def _receive_ack(group: Group, place: int, message: Ack, salt: bytes) -> Step:
    from_witness = place in group.place.witnesses
    known = from_witness or (group.place.is_primary and place in group.in_step)
    require(known, f"member {place} sent an ACK to member {group.place.index}, or before its Resume")
    if message.epoch != group.state.header.epoch or place in group.doubts:  # it was asked what it holds, and says more
        return group, []
    after = learn(group, [Acked(place, message.version, message.signature)])
    if from_witness:
        return _witness_answered(after, place, salt)
    late = not after.tail and after.acks != group.acks  # its Resume had told us, but tells nobody else
    after, effects = go_on(after, salt)
    return after, effects + (relay(after) if late else [])


def _receive_acks(group: Group, place: int, message: Acks) -> Step:
    told = place == 0 and not group.place.is_primary and place in group.in_step
    require(told, f"member {place} passes on ACKs: the primary does, after its Resume")
    most = group.place.places
    require(len(message.acks) <= most, f"{len(message.acks)} ACKs are passed on of {most} places")
    if message.epoch != group.state.header.epoch:
        return group, []
    return go_on(learn(group, message.acks), b"")


def _receive_held(group: Group, witness: int, message: Held, salt: bytes) -> Step:
    require(witness in group.place.witnesses, f"member {witness} is no witness: it shows its certificate by a Resume")
    header, effects = message.certificate.header, list[Effect]()
    if header.epoch != group.state.header.epoch or group.closed:
        return group, []
    if header.version > group.version:
        group, effects = _catch_up(group, message)
    if witness in group.doubts:  # it holds nothing that we do not know: say ours now
        group, more = dispel(group, witness)
        effects += [*more, *send_hold(group, witness)]
    ack = Acked(witness, header.version, message.signature)
    group, more = _witness_answered(learn(group, [ack] if header.version else []), witness, salt)
    return group, effects + more


def _catch_up(group: Group, message: Held) -> Step:
    if group.pending is not None and group.pending.state.header == message.certificate.header:
        return adopt(group, message.certificate)
    check_certificate(group, message.certificate)
    version, body = message.certificate.header.version, body_of_held(group, message)
    if body is not None:
        return take_over(group, message.certificate, body, "a witness")
    return lose(group, f"a witness holds version {version}")


def _witness_answered(group: Group, witness: int, salt: bytes) -> Step:
    """The first answer on a link brings the witness into step; the primary may have waited for it alone."""
    before = group
    group = replace(group, in_step=group.in_step | {witness})
    effects = tell_news(before, group, witness) if witness not in before.in_step else []
    group, more = go_on(group, salt)
    effects += more
    group, more = receive_held_back(group)
    effects += more
    if group.pending is None and witness not in before.in_step:
        group, more = propose(group, salt)
        effects += more
    return group, effects
