"""Adversary: a witness that ACKs every version, and then claims the first one that it ever held.

Alone it takes nothing: of the two claims that settle a pair's dispute the other is an honest one's, and that one holds
what was committed. Together with a dishonest member it takes what the third has, at once: the limit that a user is
told of when he picks a witness, shown here.

Source: docs/design/groups.md, "Witnessed groups": "Two faulty of three break it; say so when a user picks it".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from layer1.crypto import Hash, SigningKey
from layer1.devnet import Devnet
from layer1.ledger.agreements import Certificate, Claim, GroupHeader, sign_claim
from layer1.ledger.records import Reason
from layer1.ledger.transactions import Report
from layer1.loop import run
from layer2 import witness
from layer2.engaging import WitnessPolicy
from layer2.witness import Holding
from tests.e2e.adversaries.liar import Liar, play, replace_in
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage
from wallet.home import Home
from wallet.witness.serving import ServedWitness, serve_witness

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


class Stale(Liar):
    """The member that a lying witness would help."""


def witness_falsely(home: Path) -> None:
    """Serve as a witness whose every claim is of the first version that it held."""
    first: dict[Hash, GroupHeader] = {}
    hold = witness._with_certificate

    def note(holding: Holding, certificate: Certificate) -> Holding:
        first.setdefault(certificate.header.group_id, certificate.header)
        return hold(holding, certificate)

    def lie(key: SigningKey, place: int, _version: int, header: GroupHeader) -> Claim:
        old = first.get(header.group_id, header)
        return sign_claim(key, place, old.version, old)

    def report(
        group_id: Hash, _certificate: object, _body: object, claims: tuple[Claim, ...], _double: object
    ) -> Report:
        return Report(group_id, None, None, claims)  # and never shows what it holds

    replace_in(witness, "_with_certificate", note)
    replace_in(witness, "Report", report)
    replace_in(witness, "sign_claim", lie)

    def ready(served: ServedWitness) -> None:
        sys.stdout.write(json.dumps(str(served.contact)) + "\n")
        sys.stdout.flush()

    run(serve_witness(Home.find(home), os.environ["WALLET_PASSPHRASE"], None, WitnessPolicy(), ready))


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, who trusts a witness, and whom he should not have trusted."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__, witnessed=True) as running:
        yield running


async def paid_twice(on: Stage) -> str:
    """A witnessed channel on which Bob was paid 10.00, then 40.00."""
    channel = await on.opened()
    await on.mallory.does("pay", channel=channel, amount=1_000)
    await on.mallory.does("pay", channel=channel, amount=4_000)
    view = await on.view(channel)
    assert view.witness == on.witness and view.committed_version == view.version == 2
    return channel


async def test_a_witness_that_lies_alone_takes_nothing(on: Stage) -> None:
    """ "At least one of them is honest and *holds* every committed version": the lie settles it on the truth."""
    channel = await paid_twice(on)
    await on.force(channel)
    end = await on.settled(channel)
    claims = (await on.group(channel)).claims
    assert [None if claim is None else claim.version for claim in claims] == [None, 2, 1], "it did lie"
    assert (end.version, end.reason) == (2, Reason.CLAIMS)
    assert end.honest == (DEPOSIT + 5_000 + BOND, DEPOSIT - 5_000 + BOND)


async def test_a_witness_and_a_member_that_collude_take_what_the_third_has(on: Stage) -> None:
    """The stated limit: it is as the documents say, no better and no worse. Bob sleeps, or is a moment too late."""
    channel = await paid_twice(on)
    await on.place.serving["bob"].kill()
    assert await on.mallory.does("wedge", channel=channel, back=1) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.reason) == (1, Reason.CLAIMS)
    assert end.honest == (DEPOSIT + 1_000 + BOND, DEPOSIT - 1_000 + BOND), "40.00 that Bob was paid are gone"


if __name__ == "__main__":
    if Path(sys.argv[1]).name == "wanda":
        witness_falsely(Path(sys.argv[1]))
    else:
        play(Stale())
