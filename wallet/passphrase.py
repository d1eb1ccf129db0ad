"""Where the passphrase comes from: a file, the environment, or a prompt on the terminal; never the command line."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from layer1.errors import Refused

VARIABLE = "WALLET_PASSPHRASE"


def read_passphrase(file: Path | None, *, new: bool = False) -> str:
    """The passphrase: from `file` if given, else from the environment, else asked for (twice when it is `new`).

    Raises:
        Refused: ``no_passphrase``; the file cannot be read, there is no terminal to ask on, or two entries differ.
    """
    if file is not None:
        return _from_file(file)
    if (value := os.environ.get(VARIABLE)) is not None:
        return value
    if not sys.stdin.isatty():
        raise Refused(
            "no_passphrase",
            f"the wallet is locked and there is no terminal to ask on: give --passphrase-file, or set {VARIABLE}",
        )
    return _prompt_new() if new else _prompt("Passphrase: ")


def read_phrase(file: Path | None) -> str:
    """The phrase of twelve words: from `file`, from standard input for ``-``, else asked for; it is not shown.

    Raises:
        Refused: ``no_passphrase``: it cannot be read, or there is no terminal to ask on.
    """
    if file is not None and str(file) != "-":
        return _from_file(file)
    if file is not None:
        return sys.stdin.readline()
    if not sys.stdin.isatty():
        raise Refused("no_passphrase", "there is no terminal to ask for the phrase on: give --phrase-file, or - to it")
    return _prompt("The 12 words: ")


def _from_file(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refused("no_passphrase", f"the passphrase file {file} cannot be read: {reason}") from None
    return text.removesuffix("\n").removesuffix("\r")


def _prompt(question: str) -> str:
    try:
        return getpass.getpass(question)
    except EOFError:
        raise Refused("no_passphrase", "no passphrase was entered") from None


def _prompt_new() -> str:
    first = _prompt("New passphrase (at least 8 characters): ")
    if _prompt("The same again: ") != first:
        raise Refused("no_passphrase", "the two passphrases differ: nothing was made, try again")
    return first
