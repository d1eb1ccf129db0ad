"""What whoever waits for a payment reads meanwhile: each path, what it waits for, and which hop refused.

Source: decision 042; `wallet.requests.Progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layer1.crypto import PublicKey
from layer1.errors import Refused
from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.paying.records import Attempt, Fate, Payment
from wallet.paying.verdicts import Verdict
from wallet.requests import Progress, Report


class Told:
    """Of one payment, to all who wait for it."""

    def __init__(self, payment: Payment, currency: Currency, name_of: Callable[[PublicKey], str]) -> None:
        self._payee, self._currency, self._name_of = payment.payee, currency, name_of
        self.listeners: list[Report] = []
        self._tries = 0

    def report(self, progress: Progress) -> None:
        """Tell all of them."""
        for listener in self.listeners:
            listener(progress)

    def offers(self, payment: Payment, attempts: Sequence[Attempt]) -> None:
        """Locks are about to be offered."""
        for attempt in attempts:
            self._tries += 1
            sent, fee = format_money(attempt.received, self._currency), format_money(attempt.fee, self._currency)
            of = "" if attempt.received == payment.amount else f" of {format_money(payment.amount, self._currency)}"
            cost = f", fee {fee}" if attempt.fee else ""
            self.report(Progress(f"try {self._tries}: {sent}{of} by {self._path(attempt)}{cost}", lasting=True))

    def waits(self, payment: Payment) -> None:
        """Nothing is to be done before a lock ends."""
        parts = len([each for each in payment.attempts if each.fate is Fate.PENDING])
        several = f" to take {parts} parts" if parts > 1 else ""
        self.report(Progress(f"waiting for {self._name_of(self._payee)}{several}"))

    def failed(self, attempt: Attempt, verdict: Verdict) -> None:
        """A lock is gone."""
        self.report(Progress(f"{self._path(attempt)}: {verdict.message}", lasting=True))

    def nothing_else(self, refusal: Refused) -> None:
        """No other way was found, and locks may still stand."""
        self.report(Progress(f"no other way: {refusal.message}", lasting=True))

    def _path(self, attempt: Attempt) -> str:
        return " → ".join(self._name_of(step.node) for step in attempt.path)
