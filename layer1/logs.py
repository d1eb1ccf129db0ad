"""The log of a process: lines for people, or JSON objects for machines; never a secret.

Everything that the program logs passes one formatter, which puts `***` in place of each secret that the process knows,
tracebacks and other people's messages included. What is passed as ``extra=`` becomes a field of the object.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

import msgspec

HIDDEN = "***"
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
MIN_SECRET = 3
"""Characters of the shortest secret that is looked for: hiding each `a` would hide the log."""

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """How a replica logs, to standard error."""

    format: str = "text"
    """`text` for people, or `json`: one object per line with time, level, logger, message and further fields."""
    level: str = "info"
    """The least that is logged: `debug` (every refused peer and message), `info`, `warning` or `error`."""

    def __post_init__(self) -> None:
        for name, allowed in (("format", FORMATS), ("level", LEVELS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"log.{name} is {getattr(self, name)!r}; write one of {', '.join(allowed)}")


def set_up(policy: LogPolicy, secrets: Iterable[str] = (), *, stream: TextIO | None = None, **fields: Any) -> None:
    """Log from now on as the policy says.

    Args:
        policy: Format and level.
        secrets: Never to be shown, in plain or encoded as in a URL.
        stream: Standard error if it is not given.
        **fields: Of every line in JSON, such as the replica's index.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    hide = Hider(secrets)
    handler.setFormatter(JsonFormatter(hide, fields) if policy.format == "json" else TextFormatter(hide))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(policy.level.upper())
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))


class Hider:
    """Puts something harmless in place of secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))}
        self._secrets = sorted((form for form in forms if len(form) >= MIN_SECRET), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self, hide: Hider) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback beneath it if there is one."""
        return self._hide(super().format(record))


class JsonFormatter(logging.Formatter):
    """An object in one line."""

    def __init__(self, hide: Hider, fields: dict[str, Any]) -> None:
        super().__init__()
        self._hide = hide
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """The object; a traceback is a text in it."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode({name: self._plain(value) for name, value in told.items()}).decode()

    def _plain(self, value: Any) -> Any:
        return value if value is None or isinstance(value, int | float) else self._hide(str(value))
