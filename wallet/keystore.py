"""The wallet's keys: one phrase, a few keys derived from it, two sealed envelopes in one file.

*Safety:* no secret of a wallet is ever in a log, a ``repr``, an error text or a command line, or on disk unsealed;
and a process that opened only the ``hot`` envelope cannot spend the savings.

Keys. A BIP-39 phrase of 12 words carries 128 bits, which is the strength of the Ed25519 keys made from it: 24 words
would double the copying and strengthen nothing. Its BIP-39 seed goes through HKDF-SHA256, one info string per key:

    wedge/1/spending      account that funds deposits and bonds, signs openings and transfers, and proves the
                          wallet's identity on links
    wedge/1/savings       account that settlements of closed groups pay
    wedge/1/groups        root; the hot key of group i is HKDF(root, "wedge/1/group/" + i)

The spending account *is* the link identity: the address in a contact is then the one thing to know about a peer, a
link proves it, an opening must be funded by it, and money sent to it arrives. Both live in the same envelope of the
same process anyway, and signatures for links, transfers and openings never verify as each other (`crypto.Kind`).

At rest. The file is JSON, mode 0600. Public addresses stand in clear, so that `show` and the payouts of new groups
need no passphrase. Each envelope is sealed by ChaCha20-Poly1305 under scrypt of the passphrase and a salt of its own,
and authenticates its name and all that stands in clear: swapping envelopes or addresses is noticed.

Source: docs/design/groups.md, "Objects"; BIP-39; RFC 5869; RFC 7914; RFC 8439.
Deviation: no BIP-39 password: the file's passphrase may change, the phrase alone must suffice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from mnemonic import Mnemonic

from layer1.crypto import SEED_BYTES, PublicKey, SigningKey, format_address, parse_address
from layer1.errors import Refused
from layer1.files import write_durably

PHRASE_BITS = 128
"""Twelve words."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
"""About 0.1 s and 32 MiB for each guess at a passphrase; a command opens one envelope, two with ``--from savings``."""
MAX_SCRYPT_N = 2**20
"""A tampered file must not make us allocate more than 1 GiB before the tag is checked."""
MIN_PASSPHRASE = 8
"""Characters. scrypt slows a guess down; it cannot save a short passphrase."""

EnvelopeName = Literal["hot", "savings"]


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sealed set of secrets."""

    n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes
    sealed: bytes

    def __repr__(self) -> str:
        return f"Envelope({len(self.sealed)} bytes sealed)"


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``keystore.json``."""

    format: Literal["wedge-keystore/1"]
    spending_address: str
    savings_address: str
    hot: Envelope
    savings: Envelope


@dataclass(frozen=True, slots=True)
class HotKeys:
    """What a serving wallet holds."""

    spending: SigningKey
    """Funds, opens, transfers; and the identity on links."""
    _group_root: bytes = field(repr=False)

    def group_key(self, index: int) -> SigningKey:
        """The key made for one group alone; `index` counts this wallet's groups from 0."""
        return SigningKey(_derive(self._group_root, f"wedge/1/group/{index}"))


def new_phrase() -> str:
    """Twelve fresh words. Show them once, keep them nowhere."""
    return Mnemonic("english").generate(PHRASE_BITS)


def check_phrase(phrase: str) -> str:
    """The phrase with its spaces and letters in order.

    Raises:
        Refused: ``bad_phrase``; without repeating any of its words.
    """
    normal = " ".join(phrase.split()).lower()
    if not Mnemonic("english").check(normal):
        raise Refused(
            "bad_phrase",
            f"these {len(normal.split())} words are no phrase of a wallet: one is misspelt, missing or out of order; "
            "a phrase has 12 words and a checksum",
        )
    return normal


def check_passphrase(passphrase: str) -> None:
    """Raise Refused ``weak_passphrase`` unless it is long enough."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise Refused("weak_passphrase", f"a passphrase has at least {MIN_PASSPHRASE} characters; choose a longer one")


class Keystore:
    """The key file of one home."""

    def __init__(self, path: Path, file: KeyFile) -> None:
        self.path = path
        self._file = file

    @classmethod
    def create(cls, path: Path, phrase: str, passphrase: str) -> Keystore:
        """Derive all keys from `phrase`, seal them, and write the file.

        Raises:
            Refused: ``home_exists``, ``bad_phrase``, ``weak_passphrase``.
        """
        if path.exists():
            raise Refused("home_exists", f"{path} exists: it would be overwritten; choose another --home")
        check_passphrase(passphrase)
        seed = Mnemonic.to_seed(check_phrase(phrase))
        spending, savings = (SigningKey(_derive(seed, f"wedge/1/{name}")) for name in ("spending", "savings"))
        addresses = (format_address(spending.public), format_address(savings.public))
        hot = spending.seed() + _derive(seed, "wedge/1/groups")
        file = KeyFile(
            "wedge-keystore/1",
            *addresses,
            _seal("hot", addresses, hot, passphrase),
            _seal("savings", addresses, savings.seed(), passphrase),
        )
        write_durably(path, msgspec.json.format(msgspec.json.encode(file)) + b"\n")
        return cls(path, file)

    @classmethod
    def load(cls, path: Path) -> Keystore:
        """Read the file; nothing is unlocked.

        Raises:
            Refused: ``no_wallet``, ``bad_keystore``.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Refused(
                "no_wallet", f"there is no wallet in {path.parent} ({error.strerror}): make one with `wallet create`"
            ) from None
        try:
            file = msgspec.json.decode(data, type=KeyFile)
            parse_address(file.spending_address), parse_address(file.savings_address)
        except (msgspec.MsgspecError, UnicodeDecodeError, Refused):
            raise _damaged(path) from None
        return cls(path, file)

    @property
    def spending_address(self) -> PublicKey:
        """Account that funds channels, and this wallet's name in contacts."""
        return parse_address(self._file.spending_address)

    @property
    def savings_address(self) -> PublicKey:
        """Account that closed channels pay."""
        return parse_address(self._file.savings_address)

    def unlock(self, passphrase: str) -> HotKeys:
        """Open the ``hot`` envelope, and that one only.

        Raises:
            Refused: ``wrong_passphrase``, ``bad_keystore``.
        """
        secret = self._open("hot", self._file.hot, passphrase, 2 * SEED_BYTES)
        keys = HotKeys(SigningKey(secret[:SEED_BYTES]), secret[SEED_BYTES:])
        return keys if keys.spending.public == self.spending_address else self._refuse()

    def unlock_savings(self, passphrase: str) -> SigningKey:
        """Open the ``savings`` envelope, for one transfer out of the savings account.

        Raises:
            Refused: ``wrong_passphrase``, ``bad_keystore``.
        """
        key = SigningKey(self._open("savings", self._file.savings, passphrase, SEED_BYTES))
        return key if key.public == self.savings_address else self._refuse()

    def _open(self, name: EnvelopeName, envelope: Envelope, passphrase: str, length: int) -> bytes:
        if envelope.n > MAX_SCRYPT_N or (envelope.r, envelope.p) != (SCRYPT_R, SCRYPT_P) or len(envelope.nonce) != 12:
            raise _damaged(self.path)
        addresses = (self._file.spending_address, self._file.savings_address)
        try:
            key = _stretch(passphrase, envelope.salt, envelope.n)
            secret = ChaCha20Poly1305(key).decrypt(envelope.nonce, envelope.sealed, _context(name, addresses))
        except InvalidTag:
            raise Refused(
                "wrong_passphrase",
                f"the passphrase does not open {self.path} (or the file was changed): try again; if it is lost, the "
                "phrase of 12 words makes the wallet anew",
            ) from None
        except ValueError:
            raise _damaged(self.path) from None
        return secret if len(secret) == length else self._refuse()

    def _refuse(self) -> NoReturn:
        raise _damaged(self.path)


def _derive(secret: bytes, info: str) -> bytes:
    return HKDF(SHA256(), SEED_BYTES, salt=None, info=info.encode()).derive(secret)


def _stretch(passphrase: str, salt: bytes, n: int) -> bytes:
    return Scrypt(salt, 32, n, SCRYPT_R, SCRYPT_P).derive(passphrase.encode())


def _seal(name: EnvelopeName, addresses: tuple[str, str], secret: bytes, passphrase: str) -> Envelope:
    salt, nonce = os.urandom(16), os.urandom(12)
    key = _stretch(passphrase, salt, SCRYPT_N)
    sealed = ChaCha20Poly1305(key).encrypt(nonce, secret, _context(name, addresses))
    return Envelope(SCRYPT_N, SCRYPT_R, SCRYPT_P, salt, nonce, sealed)


def _context(name: EnvelopeName, addresses: tuple[str, str]) -> bytes:
    return msgspec.json.encode(("wedge-keystore/1", name, *addresses))


def _damaged(path: Path) -> Refused:
    return Refused(
        "bad_keystore", f"{path} is damaged or is not a key file: restore it from a copy, or the wallet from its phrase"
    )
