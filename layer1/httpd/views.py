"""What every HTTP API of ours answers: views, and problems."""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457); ``title`` is the meaning of the status, ``type`` is about:blank."""

    status: int
    title: str
    code: str
    """Stable, lower-case; for programs."""
    detail: str
    """For people: what disagrees, and the remedy."""
    proof: str | None = None
    """With ``not_found`` and ``?proof=true``: hex of the encoded proof that there is no such thing."""
