"""A watchtower that broke its receipt: making the proof, and checking it.

*Safety:* a proof is checked before it is written, as anybody would check it.

Source: docs/design/groups.md, rule 17; decision 032; `layer2.promises`.
"""

from __future__ import annotations

from pathlib import Path

from layer1.client import LedgerClient, LedgerUnreachable
from layer1.codec import decode, encode
from layer1.crypto import Hash, format_address
from layer1.errors import Refused, RemoteError, WedgeError
from layer1.files import write_durably
from layer1.ledger.genesis import Genesis, from_json
from layer1.ledger.records import Group
from layer1.proof import GroupProof
from layer1.replica_client import ReplicaClient
from layer2.promises import BrokenPromise, TowerReceipt, check_proof, describe
from wallet.book import ChannelBook
from wallet.home import Home
from wallet.towers import TowerBook

MAX_PROOF_BYTES = 4 * 2**20
"""Of a file; a proof is some kilobytes, and some more for each change of the replica set."""


async def prove(home: Home, channel: str, tower: str | None, file: Path) -> str:
    """Write the proof that a tower broke its receipt for a channel; what it says.

    Raises:
        Refused: ``unknown_channel``, ``no_receipt``, or ``kept``: the text says why nobody is to blame.
        LedgerUnreachable: No replica showed the record.
    """
    group_id = ChannelBook(home.channels_path).find(channel).group_id
    receipts = _receipts(home, group_id, tower)
    config, light = home.config(), home.light(keep=False)
    async with LedgerClient(config.ledger_urls, light.genesis, ca=config.ca, light=light) as ledger:
        await ledger.group(group_id)  # follows the changes of the replica set, and believes nobody
        proof = await _record(config.ledger_urls, config.ca, group_id)
        handovers = tuple(ledger.trust.handovers)
    refusal: Refused | None = None
    for receipt in receipts:
        broken = BrokenPromise(receipt, proof, handovers)
        try:
            text = _verdict(light.genesis, broken)
        except Refused as error:
            refusal = error
            continue
        write_durably(file, encode(broken))
        return text
    assert refusal is not None, "there is a receipt, and it was not broken"
    raise refusal


def check_file(file: Path, genesis_file: Path) -> str:
    """Check a proof with the genesis alone; what it says.

    Raises:
        Refused: ``bad_file``, ``bad_proof``, ``bad_receipt``, ``kept``, ``bad_genesis``.
    """
    try:
        genesis = from_json(genesis_file.read_text(encoding="utf-8"))
        with file.open("rb") as opened:
            data = opened.read(MAX_PROOF_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("bad_file", f"cannot be read: {error}") from None
    if len(data) > MAX_PROOF_BYTES:
        raise Refused("bad_proof", f"{file} has more than {MAX_PROOF_BYTES} bytes: it is no proof")
    try:
        broken = decode(data, BrokenPromise)
    except RemoteError as error:
        raise Refused("bad_proof", f"{file} is no proof of a broken receipt: {error}") from None
    return _verdict(genesis, broken)


def _verdict(genesis: Genesis, broken: BrokenPromise) -> str:
    group = check_proof(genesis, broken).value
    assert isinstance(group, Group), "a receipt is broken by what layer 1 shows"
    receipt = broken.receipt
    return (
        f"{format_address(receipt.tower)} broke its word: {describe(receipt)}; layer 1 settled the group on version "
        f"{group.version} at ledger clock {group.closed_clock_ms} ms, after a dispute within that time."
    )


def _receipts(home: Home, group_id: Hash, tower: str | None) -> list[TowerReceipt]:
    towers = TowerBook(home.towers_path)
    try:
        found = towers.receipts_of(group_id)
    finally:
        towers.close()
    if tower is not None:
        wanted = tower.strip().partition("@")[0]
        found = [each for each in found if format_address(each.tower).startswith(wanted)]
    if not found:
        raise Refused("no_receipt", "no watchtower gave a receipt for this channel: `wallet channel show`")
    return found


async def _record(urls: tuple[str, ...], ca: Path | None, group_id: Hash) -> GroupProof:
    """The record with its proof, as a replica sends it; the caller checks it."""
    trouble: WedgeError | None = None
    for url in urls:
        try:
            async with ReplicaClient(url, ca=ca) as replica:
                answer = await replica.group(group_id.hex(), proof=True)
                return decode(bytes.fromhex(answer.proof or ""), GroupProof)
        except (WedgeError, ValueError) as error:
            trouble = error if isinstance(error, WedgeError) else RemoteError(str(error))
    raise LedgerUnreachable(f"no replica shows the group: {trouble}")
