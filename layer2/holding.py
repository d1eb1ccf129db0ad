"""What a member brings to the witnesses of its group: each certificate, with its body sealed (rules 3 and 12).

Safety: a witness gets nothing but what all members signed; the body it cannot read.

Every member speaks with every witness itself: so no member depends on another's word for what a witness holds, each
has its own body there, and in a pair both wait for one round trip only.

Source: docs/design/groups.md, rules 3 and 12, "Witnessed groups"; decision 033.
"""

from __future__ import annotations

from layer2.events import Effect, Send
from layer2.messages import Hold
from layer2.sealing import seal_body
from layer2.value import Group


def send_hold(group: Group, *places: int) -> list[Effect]:
    """Bring the newest certificate to these witnesses, or to all."""
    place, state = group.place, group.state
    if not place.witnessed:
        return []
    sealed = seal_body(place.key, state.header, state.body) if state.version > 0 else b""
    message = Hold(group.certificate, sealed)
    return [Send(witness, message) for witness in places or place.witnesses]
