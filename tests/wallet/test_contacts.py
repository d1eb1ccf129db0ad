"""Contacts: address@host:port, and nothing that looks like one."""

from __future__ import annotations

import pytest

from layer1.crypto import SigningKey, format_address
from layer1.errors import Refused
from wallet.contacts import Contact, parse_contact, parse_endpoint

KEY = SigningKey(bytes(32)).public


@pytest.mark.parametrize(
    "contact", [Contact(KEY, "127.0.0.1", 9735), Contact(KEY, "::1", 1), Contact(KEY, "shop.example", 65535)]
)
def test_a_contact_reads_back(contact: Contact) -> None:
    assert parse_contact(str(contact)) == contact


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_contact"),
        (format_address(KEY), "bad_contact"),
        (f"{format_address(KEY)}@127.0.0.1", "bad_contact"),
        (f"{format_address(KEY)}@:1", "bad_contact"),
        (f"{format_address(KEY)}@host:65536", "bad_contact"),
        (f"{format_address(KEY)}@host:-1", "bad_contact"),
        (f"{format_address(KEY)[:-1]}x@host:1", "bad_address"),
    ],
)
def test_a_wrong_part_is_named_by_a_code(text: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_contact(text)
    assert caught.value.code == code


def test_an_ipv6_endpoint_stands_in_brackets() -> None:
    assert parse_endpoint("[::1]:80") == ("::1", 80)
