"""What one hostile replica tried, and must not get: our memory, our time, or a replica that stands still."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.consensus.core import MAX_BATCHES
from layer1.consensus.events import Accuse, Broadcast, Send
from layer1.consensus.messages import Fetch, Finalization, Notarization, Notarize, Nullify, Proposal
from layer1.crypto import ZERO_HASH, Domain, Hash, digest
from layer1.errors import RemoteError
from tests.layer1.consensus.network import child, genesis
from tests.layer1.consensus.test_rules import Bench, of

TRAITOR = 0
FAR = 2**61


def blocks(count: int) -> list[Hash]:
    return [digest(Domain.HEADER, number.to_bytes(4, "big")) for number in range(count)]


def remembered(bench: Bench) -> int:
    return sum(map(len, bench.core._checker._good.values()))


def test_votes_for_many_blocks_in_one_view_are_not_remembered() -> None:
    bench = Bench()
    traitor = bench.signers[TRAITOR]
    effects = bench.get(*(traitor.notarize(5, block) for block in blocks(50)))
    effects += bench.get(*(traitor.finalize(5, block) for block in blocks(50)))
    assert remembered(bench) == 2
    assert len(of(effects, Accuse)) == 1, "one proof is enough"


def test_votes_after_the_proof_cost_no_signature_check() -> None:
    bench = Bench()
    traitor = bench.signers[TRAITOR]
    bench.get(*(traitor.notarize(5, block) for block in blocks(2)))
    unsigned = Notarize(0, 5, ZERO_HASH, TRAITOR, bytes(64))
    assert not of(bench.get(unsigned), Accuse), "a bad signature would have been an error"


def test_certificates_of_one_signature_leave_nothing_behind() -> None:
    bench = Bench()
    for view, block in enumerate(blocks(20), FAR):
        first = bench.signers[TRAITOR].notarize(view, block).signature
        forged = Notarization(0, view, block, ((0, first), (1, bytes(64)), (2, bytes(64))))
        with pytest.raises(RemoteError, match="bad signature of replica 1"):
            bench.get(forged)
    assert remembered(bench) == 0


def test_proposals_far_ahead_leave_nothing_behind() -> None:
    bench = Bench()
    for view in range(FAR, FAR + 80, 4):
        bench.get(bench.proposal(view, genesis()))
    assert remembered(bench) == 0
    assert not bench.core.chain.blocks


@pytest.mark.parametrize("changes", [{"block": bytes(1 << 20)}, {"block": b""}, {"signature": bytes(65)}])
def test_a_vote_has_no_field_of_any_length(changes: dict[str, Any]) -> None:
    bench = Bench()
    vote = structs.replace(bench.signers[TRAITOR].notarize(5, ZERO_HASH), **changes)
    with pytest.raises(RemoteError, match="bytes"):
        bench.get(vote)


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": bytes(1 << 20)},
        {"state_root": b""},
        {"outputs_root": bytes(33)},
        {"wall_time": 2**64 - 1},
        {"clock": -1},
        {"height": 2**63},
    ],
)
def test_a_header_has_no_field_of_any_size(changes: dict[str, Any]) -> None:
    bench = Bench()
    honest = bench.proposal(1, genesis())
    header = structs.replace(honest.header, **changes)
    vote = bench.signers[1].notarize(1, header.id)
    with pytest.raises(RemoteError, match="header"):
        bench.get(structs.replace(honest, header=header, vote=vote))
    assert not bench.core.chain.blocks


def test_a_proposal_names_no_more_batches_than_fit_a_block() -> None:
    bench = Bench()
    with pytest.raises(RemoteError, match="batches"):
        bench.get(bench.proposal(1, genesis(), batches=tuple(blocks(MAX_BATCHES + 1))))


def test_a_proposal_carries_no_certificate_of_any_length() -> None:
    """Old certificates are not news, so their signatures are not checked: but the proposal is kept with them."""
    bench = Bench()
    header, _ = bench.notarized(1, genesis())
    bench.get(bench.finalization(1, header.id))
    padded = Finalization(0, 1, header.id, ((0, bytes(1 << 20)),) * 3)
    with pytest.raises(RemoteError):
        bench.get(bench.proposal(2, header, padded))
    assert header.id in bench.core.chain.blocks
    assert bench.core.view not in bench.core.chain.first


def test_a_proposal_that_was_relayed_without_its_reasons_still_gives_them_when_its_leader_sends_it() -> None:
    """The vote does not cover the justification: whoever relays a proposal first could strip it."""
    bench = Bench()
    why = bench.nullification(1)
    proposal = bench.proposal(2, genesis(), why)
    bench.get(structs.replace(proposal, justification=()), sender=TRAITOR)
    assert bench.core.view == 1
    bench.get(proposal, sender=2)
    assert bench.core.view == 2
    assert bench.core.chain.uncovered(0, 2) is None


def test_a_parked_nullification_is_not_pushed_out_by_one_that_counts_later() -> None:
    """L = 8: both lack the notarization before their latest start; the earlier start needs less."""
    bench = Bench({"term_views": 8}, index=3)
    chain = [genesis()]
    proofs = []
    for view in range(1, 5):
        chain.append(child(chain[-1], view, chain[-1].wall_time))
        proofs.append(bench.notarization(view, chain[-1].id))
    honest, hostile = bench.nullification(3, 3, 3), bench.nullification(7, 3, 3)
    bench.get(honest, hostile)
    assert bench.core.view == 1
    bench.get(proofs[1])
    assert bench.core.view == 8


def test_the_same_vote_signed_twice_counts_once_and_accuses_nobody() -> None:
    bench = Bench()
    vote = bench.signers[TRAITOR].nullify(1)
    assert not of(bench.get(vote, Nullify(0, 1, TRAITOR, bytes(64))), Accuse)
    assert not of(bench.get(vote), Broadcast)


def test_reasons_that_nobody_checked_are_not_passed_on() -> None:
    """A leader gave reasons that were news to nobody but a replica that is behind; whoever relayed them was blamed."""
    relay, behind = Bench(), Bench(index=2)
    nullified = relay.nullification(1)
    relay.get(nullified)
    forged = structs.replace(nullified, votes=tuple((index, 1, bytes(64)) for index in range(3)))
    proposal = relay.proposal(2, genesis(), forged)
    with pytest.raises(RemoteError, match="bad signature"):
        behind.get(proposal)
    relay.get(proposal)
    asked = relay.get(Fetch(proposal.vote.block, 0, 0), sender=2)
    [served] = [effect.message for effect in of(asked, Send) if isinstance(effect.message, Proposal)]
    assert served.justification == (nullified,)
    behind.get(served)
    assert behind.core.view == 2
