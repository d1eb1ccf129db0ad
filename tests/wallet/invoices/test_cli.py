"""`wallet invoice decode` and `wallet receipt verify`: for whoever has neither wallet nor ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layer1.ledger.genesis import to_json
from tests.wallet.invoices.samples import FULL, PAYEE, PREIMAGE, signed
from tests.wallet.standin import make_genesis
from wallet.cli import app
from wallet.invoices.invoice import format_invoice, sign_invoice
from wallet.invoices.receipt import make_receipt

TEXT = format_invoice(signed())


def wallet(*arguments: str, given: str | None = None) -> tuple[int, str]:
    """Exit code, and what was printed."""
    environment = {"WALLET_HOME": "/nowhere", "COLUMNS": "200", "NO_COLOR": "1"}
    done = CliRunner().invoke(app, arguments, input=given, env=environment)
    return done.exit_code, done.output


def test_an_invoice_is_decoded_without_a_wallet() -> None:
    code, shown = wallet("invoice", "decode", TEXT.upper())
    assert code == 0
    assert "12345 units" in shown and "two coffees" in shown and "15 m later" in shown
    code, shown = wallet("invoice", "decode", "-", "--json", given=f" {TEXT}\n")
    view = json.loads(shown)
    assert (code, view["amount"], view["invoice"], view["currency"]) == (0, 12_345, TEXT, None)


def test_an_invoice_that_leaves_the_amount_open_and_hints_at_a_way() -> None:
    _, shown = wallet("invoice", "decode", format_invoice(sign_invoice(PAYEE, FULL)))
    assert "any amount" in shown and "Käffchen" in shown and shown.count("via") == 2 and "hold, later" in shown


def test_what_is_none_is_refused_with_a_code() -> None:
    code, shown = wallet("invoice", "decode", TEXT[:-1], "--json")
    assert (code, json.loads(shown)["error"]["code"]) == (2, "bad_invoice")


@pytest.mark.parametrize("how", ["dark", "light", "colour"])
def test_a_qr_code_is_drawn_on_request(how: str) -> None:
    code, shown = wallet("invoice", "decode", TEXT, "--qr", how)
    assert code == 0
    assert sum("▀" in line or "▄" in line for line in shown.splitlines()) > 20
    assert "\x1b" not in shown, "NO_COLOR"


def test_another_terminal_is_a_mistake() -> None:
    assert wallet("invoice", "decode", TEXT, "--qr", "blue")[0] == 2


def test_a_receipt_is_checked_without_a_wallet(tmp_path: Path) -> None:
    file = tmp_path / "coffee.receipt"
    file.write_bytes(make_receipt(TEXT, PREIMAGE))
    code, shown = wallet("receipt", "verify", str(file))
    assert code == 0
    assert "Proven:" in shown and "Not proven:" in shown and "12345 units" in shown
    code, shown = wallet("receipt", "verify", str(file), "--json", "--chain-id", signed().chain_id.hex())
    assert (code, json.loads(shown)["payment_hash"]) == (0, signed().payment_hash.hex())


def test_a_receipt_of_another_ledger_is_refused(tmp_path: Path) -> None:
    file, genesis = tmp_path / "coffee.receipt", tmp_path / "genesis.json"
    file.write_bytes(make_receipt(TEXT, PREIMAGE))
    genesis.write_text(to_json(make_genesis(PAYEE.public)))
    for arguments in (("--genesis", str(genesis)), ("--chain-id", "00" * 32)):
        code, shown = wallet("receipt", "verify", str(file), "--json", *arguments)
        assert (code, json.loads(shown)["error"]["code"]) == (1, "wrong_chain")


def test_what_is_no_receipt_is_refused_with_a_code(tmp_path: Path) -> None:
    file = tmp_path / "coffee.receipt"
    file.write_bytes(make_receipt(TEXT, PREIMAGE).replace(PREIMAGE.hex().encode(), bytes(32).hex().encode()))
    for name, expected in (
        (str(file), "bad_receipt"),
        (str(tmp_path / "none"), "bad_file"),
        (str(tmp_path), "bad_file"),
    ):
        code, shown = wallet("receipt", "verify", name, "--json")
        assert (code, json.loads(shown)["error"]["code"]) == (1, expected)
    for chain in ("zz", "00"):
        assert wallet("receipt", "verify", str(file), "--chain-id", chain)[0] == 2
