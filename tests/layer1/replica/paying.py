"""Transfers of one unit, each unlike any other."""

from __future__ import annotations

import os

import msgspec

from layer1.crypto import Hash
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from tests.layer1.replica.network import ALICE, BOB


def transfer(chain_id: Hash) -> Transaction:
    """From Alice to Bob."""
    unsigned = Transaction(Transfer(ALICE.public, BOB.public, 1), 100_000, os.urandom(16))
    return msgspec.structs.replace(unsigned, signatures=(sign_transaction(unsigned, chain_id, ALICE),))
