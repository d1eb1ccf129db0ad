"""File descriptors: a process that runs out of them can neither accept a link nor open the next file of its journal.

What: take as many as the system allows, and leave some out of what strangers may use up.
"""

from __future__ import annotations

import sys

RESERVED = 256
"""For files, the database, links to other replicas and strangers on the link port."""
WANTED = 65_536
"""More than all limits together need; some systems allow a billion, and some programs then walk through all."""


def raise_limit() -> int:
    """Let this process open as many files as it may, up to :data:`WANTED`; how many that is."""
    if sys.platform == "win32":
        return WANTED
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


def room_for(wanted: int) -> int:
    """Of ``wanted`` connections, how many this process has descriptors for beside its :data:`RESERVED` ones."""
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 - not there on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - RESERVED))
