"""The errors of all three packages, told apart by whose fault they are.

A core answers an event with effects, with :class:`NotYet` (retry later, nobody is at fault), or with an error. An
error never leaves a half-done change behind.

Source: docs/design/style.md, "Three answers".
"""

from __future__ import annotations


class WedgeError(Exception):
    """Base of every error that this project raises on purpose."""


class RemoteError(WedgeError):
    """A peer broke the protocol. The message is dropped and counted, our state is unchanged.

    Attributes:
        evidence: The signed things that contradict each other, if the fault can be shown to others.
    """

    def __init__(self, message: str, *evidence: object) -> None:
        super().__init__(message)
        self.evidence = evidence


class Untimely(RemoteError):
    """Dropped and counted like any other, but an honest peer may send it: it is late, or more than we want just now."""


class LocalError(WedgeError):
    """We broke a rule, or our disk did: the process stops rather than guess."""


class StartAgain(WedgeError):
    """Nothing is wrong: what is on the disk now must be started from. Who runs the process does."""


class NotYet(WedgeError):
    """The event may be fine later; the driver retries it with a limit."""


class Refused(WedgeError):
    """A request was understood, is not allowed, and changed nothing.

    Attributes:
        code: Stable, lower-case identifier for programs, such as ``insufficient_balance``.
        message: For people: both numbers that disagree, and the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check(condition: bool, code: str, message: str) -> None:
    """Raise :class:`Refused` unless ``condition`` holds. Build ``message`` cheaply: it is evaluated either way."""
    if not condition:
        raise Refused(code, message)
