"""What people and programs read of a lock that came back."""

from __future__ import annotations

import pytest

from layer1.errors import Refused
from tests.wallet.paying.samples import US, attempt, channel, key_of, node
from wallet.onion.failure import Code, Failure, relay, wrap
from wallet.onion.packet import secrets
from wallet.onion.shared import public_of
from wallet.paying import verdicts
from wallet.paying.core import ENOUGH
from wallet.paying.records import Attempt

NAMES = {node(name): name for name in ("hub", "well", "payee")}


def path() -> Attempt:
    """Over two hubs; with a session that seals failures."""
    found = attempt(100, 3, "hub", "well")
    assert public_of(found.session) != found.session
    return found


def said(found: Attempt, place: int, code: Code) -> verdicts.Verdict:
    """As it comes back to us."""
    shared, _ = secrets(found.origin)
    reason = wrap(shared[place], Failure(code))
    for secret in reversed(shared[:place]):
        reason = relay(secret, reason)
    return verdicts.of_release(found, reason, US, lambda each: NAMES[each])


@pytest.mark.parametrize("code", list(verdicts.OF_A_HOP))
def test_each_refusal_names_the_hop_the_cause_and_the_remedy(code: Code) -> None:
    """ "Errors name the hop, the cause and the remedy"."""
    verdict = said(path(), 1, code)
    assert (verdict.code, verdict.place, verdict.said, verdict.is_final) == (code.value, 1, code, False)
    assert verdict.message.startswith(f"hop 2, well, did not forward to payee ({code.value}): ")
    assert verdicts.OF_A_HOP[code] in verdict.message and verdict.message.endswith("The money is back")
    weight = 1 if code in verdicts.MENDED_BY_LESS else ENOUGH
    assert verdict.avoid == {(channel("well-payee"), node("well")): weight}


@pytest.mark.parametrize("code", list(Code))
def test_the_payees_word_is_the_last_but_for_what_another_try_may_mend(code: Code) -> None:
    verdict = said(path(), 2, code)
    again = code in {Code.PARTS_MISSING, Code.EXPIRES_TOO_SOON}
    assert (verdict.code, verdict.place, verdict.is_final) == (code.value, 2, not again)
    assert verdict.avoid == ({(channel("well-payee"), node("well")): 1} if again else {}), "not for ever"
    assert verdict.message.startswith(f"the payee does not take it ({code.value}): ")


def test_where_nobody_can_tell_who_it_was_the_whole_path_is_left_alone() -> None:
    found = path()
    altered = verdicts.of_release(found, bytes(292), US, lambda each: NAMES[each])
    kept = verdicts.of_expiry(found, lambda each: NAMES[each])
    behind_us = {(channel("hub-well"), node("hub")): ENOUGH, (channel("well-payee"), node("well")): ENOUGH}
    assert (altered.place, altered.avoid, altered.is_final) == (None, behind_us, False)
    assert (kept.place, kept.avoid, kept.is_final) == (None, behind_us, True)
    blind = verdicts.of_release(found, b"", US, lambda each: NAMES[each])
    assert (blind.place, blind.avoid) == (0, {(channel("us-hub"), US): ENOUGH}), "our neighbour could not open it"
    assert verdicts.of_release(attempt(100), bytes(292), US, lambda each: NAMES[each]).is_final, "there is no other way"


def test_our_own_channel_is_named_when_it_refuses() -> None:
    verdict = verdicts.of_our_own(path(), Refused("too_many_locks", "30 locks stand, at most 30 may"), US)
    assert (verdict.code, verdict.place, verdict.avoid) == ("too_many_locks", -1, {(channel("us-hub"), US): ENOUGH})
    assert channel("us-hub").hex()[:12] in verdict.message and "30 may" in verdict.message
    assert key_of("us").public == US
