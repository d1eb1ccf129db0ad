"""What parameters of several resources look like."""

from __future__ import annotations

from layer1.httpd.routes import BOOLEAN, HASH, Parameter

BECH32 = {"type": "string", "format": "wedge-address", "pattern": "^wedge1[02-9ac-hj-np-z]{58}$"}
"""Bech32; its last six characters are a checksum, which no schema can express."""
KEY = {"oneOf": [HASH, BECH32]}
PLACE = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,9}$"}

PROOF = Parameter("proof", BOOLEAN, "Add what proves the answer to somebody who trusts the genesis alone.")
LIMIT = Parameter("limit", {"type": "integer", "minimum": 1}, "Most items in the page.", maximum="max_page")
CURSOR = Parameter("cursor", PLACE, "`next` of the page before.")
