"""The key file: nothing opens it but the passphrase, nothing shows what is inside."""

from __future__ import annotations

import json
import logging
import stat
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from layer1.crypto import SigningKey
from layer1.errors import Refused
from wallet import keystore
from wallet.keystore import Keystore, check_phrase, new_phrase

PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "SCRYPT_N", 2**4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keystore.json"


def test_the_phrase_alone_makes_the_same_keys(path: Path, tmp_path: Path) -> None:
    """groups.md, "Coming back from nothing": the seed phrase alone must suffice."""
    first = Keystore.create(path, PHRASE, PASSPHRASE)
    second = Keystore.create(tmp_path / "other.json", f"  {PHRASE.upper()} ", "another passphrase")
    one, two = first.unlock(PASSPHRASE), second.unlock("another passphrase")
    assert one.spending.public == two.spending.public == first.spending_address
    assert one.group_key(7).public == two.group_key(7).public
    assert first.savings_address == second.unlock_savings("another passphrase").public


def test_derivation_is_fixed_forever(path: Path) -> None:
    """Changing an info string would lose everybody's money."""
    store = Keystore.create(path, PHRASE, PASSPHRASE)
    keys = store.unlock(PASSPHRASE)
    made = [key.hex()[:16] for key in (store.spending_address, store.savings_address, keys.group_key(0).public)]
    assert made == EXPECTED


EXPECTED = ["16085d1f23f81d6d", "c165968bb5a3d0a3", "ec1bff255d9bb848"]


def test_every_key_is_another(path: Path) -> None:
    store = Keystore.create(path, PHRASE, PASSPHRASE)
    keys = store.unlock(PASSPHRASE)
    publics = {store.spending_address, store.savings_address, *(keys.group_key(i).public for i in range(8))}
    assert len(publics) == 10


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    Keystore.create(path, PHRASE, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_addresses_need_no_passphrase(path: Path) -> None:
    made = Keystore.create(path, PHRASE, PASSPHRASE)
    loaded = Keystore.load(path)
    assert (loaded.spending_address, loaded.savings_address) == (made.spending_address, made.savings_address)


def test_a_wrong_passphrase_opens_neither_envelope(path: Path) -> None:
    store = Keystore.create(path, PHRASE, PASSPHRASE)
    for opening in (store.unlock, store.unlock_savings):
        with pytest.raises(Refused) as caught:
            opening("correct horse batterz")
        assert caught.value.code == "wrong_passphrase"


def _tamper(path: Path, *keys: str, value: object) -> None:
    content = json.loads(path.read_bytes())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_swapped_envelopes_are_noticed(path: Path) -> None:
    """A serving wallet must not be made to unlock its savings as if they were hot keys."""
    store = Keystore.create(path, PHRASE, PASSPHRASE)
    content = json.loads(path.read_bytes())
    content["hot"], content["savings"] = content["savings"], content["hot"]
    path.write_text(json.dumps(content))
    with pytest.raises(Refused, match="changed"):
        Keystore.load(store.path).unlock(PASSPHRASE)


def test_a_changed_address_is_noticed(path: Path) -> None:
    """Else settlements would pay whoever could write the file."""
    store = Keystore.create(path, PHRASE, PASSPHRASE)
    _tamper(path, "savings_address", value=json.loads(path.read_bytes())["spending_address"])
    with pytest.raises(Refused) as caught:
        Keystore.load(store.path).unlock(PASSPHRASE)
    assert caught.value.code == "wrong_passphrase"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), "wedge-keystore/2"),
        (("hot", "n"), 2**40),
        (("hot", "n"), 3),
        (("hot", "r"), 10**6),
        (("hot", "nonce"), ""),
        (("hot", "sealed"), ""),
        (("spending_address",), "wedge1qqq"),
        (("extra",), 1),
    ],
)
def test_a_damaged_file_is_refused_in_words(path: Path, keys: tuple[str, ...], value: object) -> None:
    Keystore.create(path, PHRASE, PASSPHRASE)
    _tamper(path, *keys, value=value)
    with pytest.raises(Refused) as caught:
        Keystore.load(path).unlock(PASSPHRASE)
    assert caught.value.code in {"bad_keystore", "wrong_passphrase"}


def test_garbage_and_absence_are_refused_in_words(path: Path) -> None:
    with pytest.raises(Refused, match="wallet create"):
        Keystore.load(path)
    path.write_bytes(b"\xff\x00 not json")
    with pytest.raises(Refused, match="damaged"):
        Keystore.load(path)


def test_an_existing_wallet_is_never_overwritten(path: Path) -> None:
    before = Keystore.create(path, PHRASE, PASSPHRASE).path.read_bytes()
    with pytest.raises(Refused, match="exists"):
        Keystore.create(path, new_phrase(), PASSPHRASE)
    assert path.read_bytes() == before


def test_a_short_passphrase_is_refused(path: Path) -> None:
    with pytest.raises(Refused, match="at least 8"):
        Keystore.create(path, PHRASE, "1234567")
    assert not path.exists()


def test_no_secret_is_shown(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a repr, a str, a log, an error with its traceback, nor the file holds one."""
    with caplog.at_level(logging.DEBUG):
        store = Keystore.create(path, PHRASE, PASSPHRASE)
        keys, savings = store.unlock(PASSPHRASE), store.unlock_savings(PASSPHRASE)
        guess = PASSPHRASE + "!"
        errors = [_failure(store.unlock, guess), _failure(check_phrase, PHRASE[1:])]
    shown = " ".join([repr(store), repr(keys), str(keys), repr(savings), path.read_text(), caplog.text, *errors])
    for secret in _secrets(keys.spending, savings, keys.group_key(0)):
        assert secret not in shown
    for word in (guess, PASSPHRASE, "winner thank", PHRASE[1:14]):
        assert word not in shown


def _failure(attempt: Callable[[str], object], secret: str) -> str:
    with pytest.raises(Refused) as caught:
        attempt(secret)
    return "".join(traceback.format_exception(caught.value))


def _secrets(*keys: SigningKey) -> list[str]:
    return [form for key in keys for form in (key.seed().hex(), repr(key.seed()), str(list(key.seed())))]


def test_a_phrase_has_twelve_words_and_a_checksum() -> None:
    phrase = new_phrase()
    assert len(phrase.split()) == 12
    assert check_phrase(phrase) == phrase
    assert new_phrase() != phrase
