"""The format of a data directory, in a file of its own that is read before anything else there.

Safety: a release never touches what a newer one wrote: it might not see a vote there that binds it.

Journal, checkpoint and database carry formats of their own; this one stands for all of them together.
"""

from __future__ import annotations

import os
from pathlib import Path

from layer1.errors import LocalError
from layer1.files import sync_directory
from layer1.release import DATA_FORMAT, RELEASE

FORMAT_NAME = "format"


def read_format(data: Path) -> int | None:
    """The number in the file; None if there is none yet, as in a directory that is new or older than this file.

    Raises:
        LocalError: It holds something else, or cannot be read.
    """
    path = data / FORMAT_NAME
    try:
        first, *_ = path.read_text(encoding="ascii").splitlines() or [""]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalError(f"{path} cannot be read: {error}") from None
    if not first.isdigit() or len(first) > 9:
        raise LocalError(f"{path} begins with {first[:40]!r}, not with the number of a format; put it back")
    return int(first)


def check_format(data: Path) -> None:
    """Refuse a directory that a newer release wrote.

    Raises:
        LocalError: With both numbers and the remedy.
    """
    found = read_format(data)
    if found is not None and found > DATA_FORMAT:
        raise LocalError(
            f"the data in {data} have format {found}, a newer release wrote them; this one ({RELEASE}) reads up to "
            f"{DATA_FORMAT}: start the newer release. Nothing was changed"
        )


def mark_format(data: Path) -> None:
    """Check the directory, and write down that it is of this release's format, if nothing says so yet.

    Raises:
        LocalError: See :func:`check_format`; or it cannot be written.
    """
    check_format(data)
    if read_format(data) == DATA_FORMAT:
        return
    new = data / (FORMAT_NAME + ".new")
    try:
        with new.open("w", encoding="ascii") as file:
            file.write(f"{DATA_FORMAT}\nwritten by release {RELEASE}\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(data / FORMAT_NAME)
        sync_directory(data)
    except OSError as error:
        raise LocalError(f"cannot write to {data}: {error.strerror}") from error
