"""Logs: one JSON object per line if asked, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from layer1.config import secrets_of
from layer1.crypto import SigningKey
from layer1.logs import FORMATS, LogPolicy, set_up
from tests.layer1.test_config import GOOD, load

PASSWORD = "hunt/2 er%ü"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(policy: LogPolicy, *secrets: str) -> io.StringIO:
    stream = io.StringIO()
    set_up(policy, secrets, stream=stream, replica=3)
    return stream


def test_each_line_is_an_object_with_fields() -> None:
    stream = logged(LogPolicy(format="json"))
    log = logging.getLogger("layer1.test")
    log.warning("replica %d is %s", 2, "slow\nand more", extra={"peer": 2, "delay_ms": 1.5})
    try:
        int("broken")
    except ValueError:
        log.exception("it broke")
    log.debug("not asked for")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning", "logger": "layer1.test", "message": "replica 2 is slow\nand more",
        "replica": 3, "peer": 2, "delay_ms": 1.5,
    }  # fmt: skip
    assert "Traceback" in second["exception"] and "ValueError: invalid literal" in second["exception"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_secret_is_never_shown(form: str) -> None:
    """Wherever it comes from: a message, its arguments, an extra field, a traceback, quoted as in a URL."""
    stream = logged(LogPolicy(format=form, level="debug"), PASSWORD, "c0ffee" * 8)
    log = logging.getLogger("layer1.test")
    log.info("connecting with " + PASSWORD)
    log.info("connecting with %s", f"postgresql://ledger:hunt%2F2%20er%25%C3%BC@db {'c0ffee' * 8}")
    log.info("connecting", extra={"url": PASSWORD})
    try:
        Path(f"/nowhere/{PASSWORD}").read_bytes()
    except OSError:
        log.exception("refused")
    shown = stream.getvalue()
    for trace in ("hunt", "er%", "c0ffee"):
        assert trace not in shown
    assert shown.count("***") >= 4


def test_a_formatter_that_does_not_hide_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant."""
    monkeypatch.setattr("layer1.logs.Hider.__call__", lambda _, text: text)
    for form in FORMATS:
        with pytest.raises(AssertionError):
            test_a_secret_is_never_shown(form)


def test_the_secrets_of_a_replica_are_its_key_and_its_password(tmp_path: Path) -> None:
    home = tmp_path
    (home / "key").write_text(SigningKey(b"k" * 32).seed().hex())
    (home / "key").chmod(0o600)
    (home / "replica.toml").touch(0o600)
    config = load(home, 'database_url = "postgresql://ledger:hunter2@127.0.0.1/x?sslpassword=hunter3"\n' + GOOD)
    assert secrets_of(config) == [(b"k" * 32).hex(), "hunter2", "hunter3"]
    (home / "key").unlink()
    assert secrets_of(config) == ["hunter2", "hunter3"]
