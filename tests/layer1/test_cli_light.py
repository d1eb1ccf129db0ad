"""`layer1 light`: what it prints, for people and programs, and what it does about an attack."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner

from layer1.attack import AttackProof
from layer1.cli import app
from layer1.cli_light import _answers
from layer1.client import LedgerClient
from layer1.codec import decode
from layer1.crypto import format_address
from layer1.ledger.genesis import to_json
from tests.layer1.api.stand_in import ALICE, BOB, Chain
from tests.layer1.test_client import LIMITS, Net, net
from tests.layer1.test_light import changed

__all__ = ["net"]

pytestmark = pytest.mark.slow

ADDRESS = format_address(ALICE.public)


@pytest.fixture(autouse=True)
def _undo_what_a_process_of_its_own_would_keep(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("layer1.cli_light.LedgerClient", partial(LedgerClient, limits=LIMITS))
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


async def command(net: Net, *arguments: str, urls: list[str] | None = None) -> tuple[int, Any, str]:
    """A verb of `layer1 light`, with an event loop of its own: exit code, output, and what it said besides."""
    genesis = net.directory / "genesis.json"
    genesis.write_text(to_json(net.chain.genesis))
    where = ["--genesis", str(genesis)]
    if arguments[0] != "check-proof":
        where += [part for url in (urls or net.urls) for part in ("--api", url)]
        where += ["--proof-file", str(net.directory / "attack.proof")]
    found = await asyncio.to_thread(CliRunner().invoke, app, ["light", *arguments, *where])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, json.loads(found.stdout) if "--json" in arguments else found.stdout, found.stderr


async def test_every_verb_answers_and_says_what_it_rests_on(net: Net) -> None:
    await net.replica()
    await net.replica()
    opening = net.chain.opening()
    net.order(opening)
    changed(1, net.chain)
    net.order()
    name = net.chain.blocks[0].outputs[0].group_id
    assert name is not None
    ground = "signed by 3 of the 4 replicas of epoch 1, of which 1 may fail; shown by 2 of 2 that were asked"
    for arguments, told in (
        (("account", ADDRESS), f"{ADDRESS}: 9,998.89 WDG"),
        (("group", name.hex()), "is open, at version 0: 1.00 WDG, 0.50 WDG"),
        (("group", "00" * 32), f"There is no group {'00' * 32}."),
        (("head",), f"Block 4: {net.chain.tip.id.hex()}"),
        (("sets",), "Epoch 0, until block 3: q = 3, f = 1"),
    ):
        code, text, _ = await command(net, *arguments)
        assert code == 0
        assert told in text
        assert ground in text
        assert "the newest known is 4" in text and ": fresh (up to 26 s)" in text
    code, text, _ = await command(net, "transaction", opening.id.hex())
    assert (code, f"Transaction {opening.id.hex()} is final, and executed" in text) == (0, True)
    assert "as of block 1; the newest known is 4" in text or "as of block 1; the newest known is 1" in text
    code, text, _ = await command(net, "transaction", "11" * 32)
    assert (code, "that proves nothing" in text) == (0, True)


async def test_programs_get_json(net: Net) -> None:
    await net.replica()
    changed(1, net.chain)
    net.order()
    code, found, _ = await command(net, "account", ADDRESS, "--json")
    assert (code, found["answer"]) == (0, {"address": ADDRESS, "balance": 999_999})
    assert (found["block"]["height"], found["block"]["id"]) == (3, net.chain.tip.id.hex())
    assert (found["head"]["height"], found["head"]["fresh"], found["head"]["max_age_ms"]) == (3, True, 26_000)
    assert (found["set"]["epoch"], found["set"]["quorum"], found["set"]["faults"]) == (1, 3, 1)
    assert [seat["number"] for seat in found["set"]["replicas"]] == [1, 2, 3, 4]
    assert (found["agree"], found["asked"]) == (net.urls, 1)
    code, found, _ = await command(net, "sets", "--json")
    assert [known["ended_at"] for known in found["answer"]["sets"]] == [2, None]
    code, found, _ = await command(net, "group", "xy", "--json")
    assert (code, found["error"]["code"]) == (1, "bad_id")
    code, found, _ = await command(net, "account", "wedge1", "--json")
    assert (code, found["error"]["code"]) == (1, "bad_address")
    code, found, _ = await command(net, "head", "--json", urls=["http://127.0.0.1:9"])
    assert (code, found["error"]["code"]) == (3, "failed")


async def test_what_was_seen_is_kept_and_gone_on_from(net: Net) -> None:
    await net.replica()
    changed(1, net.chain)
    net.order()
    state = net.directory / "state"
    assert (await command(net, "head", "--state", str(state)))[0] == 0
    await net.replica(Chain(net.chain.genesis))
    code, _, said = await command(net, "head", "--state", str(state), urls=net.urls[1:])
    assert (code, "block 3 is final" in said) == (3, True)
    code, found, _ = await command(net, "check-proof", str(state), "--json")
    assert (code, found["error"]["message"]) == (1, f"{state} is of a light client that saw no attack")
    state.write_bytes(state.read_bytes()[:-1])
    code, found, _ = await command(net, "head", "--state", str(state), "--json")
    assert (code, found["error"]["code"]) == (1, "bad_light_file")


async def test_an_attack_is_shown_stored_and_can_be_checked_by_anybody(net: Net) -> None:
    fork = Chain(net.chain.genesis)
    fork.commit()
    net.chain.commit([net.chain.transfer(5)])
    await net.replica()
    await net.replica(fork)
    state, proof = str(net.directory / "state"), net.directory / "attack.proof"
    code, text, said = await command(net, "account", ADDRESS, "--state", state)
    assert code == 4
    assert "The ledger is under attack: two blocks of height 1 are final in epoch 0" in text
    assert "Signed both: replicas 0, 1, 2; at most 1 may fail.\nEach of them is convicted" in text
    assert f"the proof is in {proof}" in said
    code, found, _ = await command(net, "head", "--json", "--state", state, urls=net.urls[:1])
    assert (code, found["error"]["code"]) == (4, "ledger_attacked")
    for file in (str(proof), state):
        code, found, _ = await command(net, "check-proof", file, "--json")
        assert (code, found["signed_both"], found["convicted"], found["faults"]) == (0, [0, 1, 2], [0, 1, 2], 1)
        assert {side["id"] for side in found["sides"]} == {net.chain.tip.id.hex(), fork.tip.id.hex()}
    assert (await command(net, "check-proof", str(proof)))[1].startswith("The ledger is under attack: two blocks")
    kept = proof.read_bytes()
    proof.write_bytes(b"something of mine")
    code, _, said = await command(net, "head")
    assert (code, proof.read_bytes(), "is left" in said) == (4, b"something of mine", True)
    proof.write_bytes(kept[:-1])
    code, found, _ = await command(net, "check-proof", str(proof), "--json")
    assert (code, found["error"]["code"]) == (1, "no_proof")
    assert decode(kept, AttackProof).chain_id == net.chain.genesis.chain_id


async def test_following_prints_again_what_changes(net: Net) -> None:
    await net.replica()
    client = await net.client()

    async def ask(client: LedgerClient) -> Any:
        found = await client.account(BOB.public)
        return {"balance": found.value.balance}, found.header

    async with asyncio.timeout(5):
        answers = _answers(client, ask, follow=True)
        found = [(await anext(answers))["answer"]["balance"]]
        following = asyncio.ensure_future(anext(answers))
        while not following.done():  # until it has its stream, blocks go by unheard
            net.order()
            net.order(net.chain.transfer(7))
            await asyncio.wait({following}, timeout=0.05)
        found.append((await following)["answer"]["balance"])
        await answers.aclose()
    assert found[0] == 500_000
    assert (found[1] - found[0]) % 7 == 0 and found[1] > found[0]
