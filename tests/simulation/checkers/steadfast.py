"""Steadfastness: with at most f Byzantine replicas, no honest one ever finds itself wrong and stops."""

from __future__ import annotations

from layer1.errors import WedgeError
from tests.simulation.checkers.base import Checker


class Steadfast(Checker):
    """Replicas that stop."""

    def failed(self, replica: int, error: WedgeError) -> None:
        self.fail(f"replica {replica} is honest and stops: {error}")
