"""Real links, journals and HTTP: a replica votes twice, and somebody at a terminal has it marked."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layer1.cli import app
from layer1.client import ClientLimits, LedgerClient
from layer1.codec import decode, encode
from layer1.config import load_config
from layer1.consensus.certificates import Signer
from layer1.consensus.evidence import EvidenceKind
from layer1.consensus.messages import Notarize
from layer1.devnet import Plan, home_of, initialize
from layer1.link import Link
from layer1.replica.driver import Replica
from layer1.replica.messages import ConsensusMessage, LinkMessage
from tests.layer1.replica.test_driver import running, transfer

pytestmark = pytest.mark.slow
LIAR = 3


@pytest.fixture(autouse=True)
def _undo_what_a_process_of_its_own_would_keep() -> object:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def make_it_lie(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside each notarize vote it sends another one, for another block."""
    send, signer = replica._peers.send, Signer(replica.core.config, replica._key, replica.core.index)

    def send_twice(link: Link | None, data: bytes) -> None:
        send(link, data)
        message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
        if isinstance(message, ConsensusMessage) and isinstance(message.message, Notarize):
            send(link, encode(ConsensusMessage(0, signer.notarize(message.message.view, bytes(32)))))

    monkeypatch.setattr(replica._peers, "send", send_twice)


async def command(*arguments: str) -> tuple[int, Any]:
    """A verb of `layer1 evidence`, with an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["evidence", *arguments])
    return result.exit_code, json.loads(result.output) if "--json" in arguments else result.output


async def test_a_double_voter_is_caught_listed_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as replicas:
        where = ("--genesis", str(tmp_path / "genesis.json"), "--api", f"http://127.0.0.1:{replicas[1].api_port}")
        code, text = await command("list", *where)
        assert (code, text) == (0, "No replica holds evidence against another one.\n")
        code, text = await command("submit", *where)
        assert (code, text.startswith("There is nothing to submit")) == (0, True)

        make_it_lie(replicas[LIAR], monkeypatch)
        for salt in range(50):
            ids = replicas[0].submit([transfer(replicas[0], salt)])
            assert len(await replicas[0].wait_final(ids, 10_000)) == 1
            if all(replica.core.evidence for replica in replicas[:LIAR]):
                break
        code, rows = await command("list", *where, "--json")
        assert (code, {row["replica"] for row in rows}) == (0, {LIAR})
        assert rows[0]["kind"] == EvidenceKind.NOTARIZED_TWICE
        assert rows[0]["marked"] is None

        code, (row,) = await command("submit", *where, "--json", "--replica", str(LIAR))
        assert (code, row["replica"], row["code"]) == (0, LIAR, "ok")
        code, rows = await command("list", *where, "--json")
        assert {found["marked"] for found in rows} == {row["transaction"]}
        code, text = await command("list", *where)
        assert "notarized twice" in text and row["transaction"][:12] in text
        code, text = await command("submit", *where)
        assert (code, text.startswith("There is nothing to submit")) == (0, True)
        assert replicas[LIAR].evidence() == ()
    kept = Replica(load_config(home_of(tmp_path, 0), reuse_port=True))
    try:
        await kept.start()
        assert {found.replica for found in kept.evidence()} == {LIAR}
        assert kept.head().state.mark(kept.genesis.replicas[LIAR]) is not None
    finally:
        await kept.stop()


async def test_nobody_to_ask_is_an_exit_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = partial(LedgerClient, limits=ClientLimits(patience_ms=100, round_ms=20))
    monkeypatch.setattr("layer1.cli_evidence.LedgerClient", impatient)
    initialize(tmp_path / "ledger", Plan(replicas=1))
    where = ("--genesis", str(tmp_path / "ledger" / "genesis.json"), "--api", "http://127.0.0.1:9")
    code, said = await command("list", *where, "--json")
    assert (code, said["error"]["code"]) == (3, "failed")
