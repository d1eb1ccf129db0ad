"""What `layer1 light` says: answers, what they rest on, and attacks, for people."""

from __future__ import annotations

from typing import Any

from layer1.attack import Attack
from layer1.codec import encode
from layer1.ledger.genesis import Currency

Answer = dict[str, Any]
"""As `layer1 light --json` prints it."""


def ground(shown: Answer) -> str:
    """What an answer rests on."""
    block, head, known = shown["block"], shown["head"], shown["set"]
    fresh = "fresh" if head["fresh"] else "NOT FRESH"
    age, most = head["age_ms"] / 1000, head["max_age_ms"] / 1000
    return (
        f"  as of block {block['height']}; the newest known is {head['height']}, {age:.1f} s old: {fresh} "
        f"(up to {most:.0f} s)\n"
        f"  signed by {known['quorum']} of the {len(known['replicas'])} replicas of epoch {known['epoch']}, of which "
        f"{known['faults']} may fail; shown by {len(shown['agree'])} of {shown['asked']} that were asked"
    )


def _money(units: int, currency: Currency) -> str:
    whole, part = divmod(units, 10**currency.decimals)
    point = f".{part:0{currency.decimals}}" if currency.decimals else ""
    return f"{whole:,}{point} {currency.symbol}"


def account_text(answer: Answer, currency: Currency) -> str:
    """A balance."""
    return f"{answer['address']}: {_money(answer['balance'], currency)}"


def group_text(answer: Answer, currency: Currency) -> str:
    """A group, or that there is none."""
    found = answer["group"]
    if found is None:
        return f"There is no group {answer['id']}."
    units = [member["balance"] for member in found["members"]]
    balances = "not revealed" if None in units else ", ".join(_money(each, currency) for each in units)
    return f"Group {answer['id']} is {found['status']}, at version {found['version']}: {balances}\n  {found['next']}"


def transaction_text(answer: Answer, _: Currency) -> str:
    """What became of a transaction."""
    if not answer["final"]:
        return f"No replica that was asked knows transaction {answer['id']} to be final; that proves nothing."
    executed = "executed" if answer["code"] == "ok" else f"was refused: {answer['code']}: {answer['message']}"
    return f"Transaction {answer['id']} is final, and {executed}"


def preimage_text(answer: Answer, _: Currency) -> str:
    """A registered preimage, or that there is none."""
    found = answer["registered"]
    if found is None:
        return f"No preimage of {answer['hash']} is registered."
    renewed = "" if found["kept_from"] == found["clock"] else f", renewed at {found['kept_from']}"
    return f"The preimage of {answer['hash']} is registered since clock {found['clock']}{renewed}: {found['preimage']}"


def head_text(answer: Answer, _: Currency) -> str:
    """The newest block."""
    return f"Block {answer['height']}: {answer['id']}, ledger clock {answer['clock']} ms"


def sets_text(answer: Answer, _: Currency) -> str:
    """All replica sets, and who is marked."""
    lines = []
    for known in answer["sets"]:
        end = "now" if known["ended_at"] is None else f"until block {known['ended_at']}"
        lines.append(f"Epoch {known['epoch']}, {end}: q = {known['quorum']}, f = {known['faults']}")
        lines += [f"  replica {seat['number']}: {seat['key']}" for seat in known["replicas"]]
    lines.append(f"Marked: {', '.join(map(str, answer['marked'])) or 'none'}")
    return "\n".join(lines)


def attack_view(attack: Attack) -> Answer:
    """An attack for programs."""
    sides = (attack.proof.first.header, attack.proof.second.header)
    return {
        "reason": attack.reason,
        "sides": [
            {"epoch": side.epoch, "height": side.height, "view": side.view, "id": side.id.hex()} for side in sides
        ],
        "signed_both": list(attack.signers),
        "faults": attack.faults,
        "convicted": list(attack.signers) if attack.evidence else [],
        "evidence": [encode(evidence).hex() for evidence in attack.evidence],
    }


def attack_text(attack: Attack) -> str:
    """An attack for people."""
    shown = attack_view(attack)
    lines = [f"The ledger is under attack: {attack.reason}."]
    lines += [
        f"  block {side['height']} of epoch {side['epoch']}, view {side['view']}: {side['id']}"
        for side in shown["sides"]
    ]
    if attack.signers:
        lines.append(f"Signed both: replicas {', '.join(map(str, attack.signers))}; at most {attack.faults} may fail.")
        lines.append(
            "Each of them is convicted by its own two votes."
            if attack.evidence
            else "More than so many broke the rules; in different views, not each that is named must have."
        )
    return "\n".join(lines) + "\n"
