"""The timers of a view: when this replica gives up on a leader, and when it says things again.

Safety: none is needed; a timer only ever makes a replica nullify or repeat itself.

Liveness wants two things of timers. They must not run on an idle ledger, or a leader with nothing to propose is
dismissed (rule 9). And a new view must start with a full timeout, or a backlog of old views makes each one die on entry
(rule 8): so everything here is counted from an entry or from when work appeared, whichever is later.

Source: docs/design/consensus.md, rules 6, 8, 9 and 10; Chan and Pass, Simplex Consensus (2023), section 2.
Deviation: timeouts fall back by one halving per final block, not at once, or a network slower than the first timeout
would pay all the doublings again after each block.
"""

from __future__ import annotations

from layer1.consensus.config import Config
from layer1.consensus.observing import Why


class Pacing:
    """Times of one replica, monotonic milliseconds."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.entered_ms = 0
        self.term_entered_ms = 0
        self.work_since_ms: int | None = None
        """When work appeared; None while there is none (rule 9)."""
        self.progress_ms = 0
        """Last entry, commit or rebroadcast, or when work appeared (rule 10)."""
        self.doublings = 0

    @property
    def timeout_ms(self) -> int:
        """The timeout of a view now: doubled with each nullified term without a final block, up to a bound."""
        return min(self._config.view_timeout_ms << min(self.doublings, 32), self._config.max_view_timeout_ms)

    def enter(self, now_ms: int, *, new_term: bool, nullified: bool) -> None:
        """A view was entered: leaving one cancels its timers (rule 1)."""
        self.entered_ms = self.progress_ms = now_ms
        if new_term:
            self.term_entered_ms = now_ms
        if nullified and self.timeout_ms < self._config.max_view_timeout_ms:
            self.doublings += 1

    def finalized(self, now_ms: int) -> None:
        """A block became final: progress."""
        self.progress_ms = now_ms
        self.doublings = max(0, self.doublings - 1)

    def work(self, there_is: bool, now_ms: int) -> None:
        """Timers start when work appears, not when the view was entered, and stop when it ends (rule 9)."""
        if not there_is:
            self.work_since_ms = None
        elif self.work_since_ms is None:
            self.work_since_ms = self.progress_ms = now_ms

    def deadline_ms(self, oldest_notarized_ms: int | None, passed_over_ms: int | None) -> int | None:
        """When to nullify (rules 6 and 8); None while there is no work.

        Args:
            oldest_notarized_ms: When the oldest unfinal view of the current term was notarized.
            passed_over_ms: Since when the oldest transaction waits although blocks have room for it.
        """
        deadlines = self._deadlines(oldest_notarized_ms, passed_over_ms)
        return min(deadlines.values()) if deadlines else None

    def why(self, oldest_notarized_ms: int | None, passed_over_ms: int | None) -> Why:
        """Which of the timers fires first; arguments as for `deadline_ms`."""
        deadlines = self._deadlines(oldest_notarized_ms, passed_over_ms)
        return min(deadlines, key=lambda why: deadlines[why], default=Why.TIMEOUT)

    def _deadlines(self, oldest_notarized_ms: int | None, passed_over_ms: int | None) -> dict[Why, int]:
        since = self.work_since_ms
        if since is None:
            return {}
        deadlines = {Why.TIMEOUT: max(self.entered_ms, since) + self.timeout_ms}
        if self._config.term_views > 1:
            deadlines[Why.LONG_TERM] = max(self.term_entered_ms, since) + self._config.max_term_ms
        if passed_over_ms is not None:
            entered_ms = max(self.term_entered_ms, passed_over_ms)
            deadlines[Why.PASSED_OVER] = entered_ms + self._config.inclusion_timeout_ms
        if oldest_notarized_ms is not None:
            entered_ms = max(self.term_entered_ms, oldest_notarized_ms)
            deadlines[Why.STALLED] = entered_ms + self._config.stall_timeout_ms
        return deadlines

    @property
    def repeat_ms(self) -> int | None:
        """When to rebroadcast (rule 10); None while there is no work."""
        return None if self.work_since_ms is None else self.progress_ms + self._config.rebroadcast_ms
