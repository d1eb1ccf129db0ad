"""Bech32m of any length: text that is copied, read out and scanned, with a checksum of six characters.

The kept package `bech32` has Bech32 of addresses; Bech32m is the same with another constant (BIP-350), put together
here from that package's parts. A checksum finds what happens to text by accident, for certain up to 3 wrong characters
of 1,023, and of longer ones with odds of a thousand million to one; what happens to it on purpose is for a signature.

Source: BIP-173 and BIP-350.
"""

from __future__ import annotations

import bech32

from layer1.errors import RemoteError

_CONSTANT = 0x2BC830A3
_CHECKSUM_CHARACTERS = 6


def encode_text(prefix: str, data: bytes) -> str:
    """The text of some bytes; lower case."""
    words = bech32.convertbits(data, 8, 5)
    assert words is not None, "eight bits regroup into fives with padding"
    rest = bech32.bech32_polymod([*bech32.bech32_hrp_expand(prefix), *words, *bytes(_CHECKSUM_CHARACTERS)]) ^ _CONSTANT
    words += [rest >> 5 * (_CHECKSUM_CHARACTERS - 1 - place) & 31 for place in range(_CHECKSUM_CHARACTERS)]
    return prefix + "1" + "".join(bech32.CHARSET[word] for word in words)


def decode_text(prefix: str, text: str) -> bytes:
    """The bytes of a text, which is of one case, with nothing around it.

    Raises:
        RemoteError: Another prefix, another alphabet, a wrong checksum, or bits left over.
    """
    if not text.isascii():
        raise RemoteError("it has characters that are none of its alphabet")  # some of them have capitals that are
    if text not in (text.lower(), text.upper()):
        raise RemoteError("it has capitals and small letters: write all of it in one")
    text = text.lower()
    if not text.startswith(prefix + "1"):
        raise RemoteError(f"it does not begin with {prefix}1")
    words = [bech32.CHARSET.find(character) for character in text[len(prefix) + 1 :]]
    if -1 in words:
        wrong = text[len(prefix) + 1 + words.index(-1)]
        raise RemoteError(f"character {len(prefix) + 2 + words.index(-1)}, {wrong!r}, is none of its alphabet")
    if bech32.bech32_polymod([*bech32.bech32_hrp_expand(prefix), *words]) != _CONSTANT:
        raise RemoteError("its checksum is wrong: a character is, or some are missing")
    data = bech32.convertbits(words[:-_CHECKSUM_CHARACTERS], 5, 8, False)
    if data is None:
        raise RemoteError("its bits do not add up to bytes")
    return bytes(data)
