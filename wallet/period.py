"""How long a challenge period must be, and how people write it.

*Safety:* with at least the period computed here, a wallet that looks at the ledger once per `poll_ms`, and reaches
it, gets its report in before the deadline.

Source: docs/design/groups.md, rules 18 and 22.
Deviation: the network's delay is taken as half a view timeout, which is what that timeout is made for; and the flood
is of :data:`BURST_GROUPS`, since nobody knows the number of groups beforehand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from layer1.errors import Refused
from layer1.ledger.genesis import Genesis
from layer1.replica.weight import BUILD_WEIGHT, PREIMAGES_A_SIGNATURE, block_weight

POLL_MS = 12 * 3_600_000
"""A wallet that is not served is opened twice a day, or else its owner has to choose a longer period."""
BURST_GROUPS = 100_000
"""Groups that are wedged at once, if everybody is attacked together; each is reported on, too."""
LOCKS_POLL_MS = 2_000
"""How often a wallet looks at locks whose time is near."""
BURST_PREIMAGES = 10_000
"""That are registered at once, if a hub dies with as many payments in flight."""
GROUP_WEIGHT = 7
"""Signatures in the dispute of one channel: a certificate of two members in the wedge and in the report, the claim of
who wedged, and both claims in the report.
"""

_DURATION = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>ms|s|m|h|d)", re.ASCII)
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of the formula."""

    what: str
    ms: int


def lane_ms(genesis: Genesis, groups: int) -> int:
    """At most how long layer 1 orders disputes of so many groups at once, whatever f replicas bring besides.

    Disputes have the first claim on every block, and no block takes longer than a view timeout, or its leader loses
    the term. If all honest disputes come to one replica, it has its turn among f that flood and the queue of what is
    relayed: one part in f+2 of each block (decision 020).
    """
    p = genesis.parameters
    signatures = groups * GROUP_WEIGHT * (genesis.replica_set.faults + 2)
    return -(-signatures // min(BUILD_WEIGHT, block_weight(p))) * p.view_timeout_ms


def terms(genesis: Genesis, poll_ms: int = POLL_MS, groups: int = BURST_GROUPS) -> tuple[Term, ...]:
    """The summands of rule 18."""
    p, leaders = genesis.parameters, genesis.replica_set.faults + 1
    return (
        Term("the wallet looks at the ledger again", poll_ms),
        Term("the news is at most one heartbeat old", p.heartbeat_ms),
        Term("the report travels to the replicas and back", p.view_timeout_ms),
        Term(
            "f+1 leaders in a row leave it out",
            leaders * (p.inclusion_timeout_ms + p.view_timeout_ms),
        ),
        Term("a block with it becomes final", p.view_timeout_ms),
        Term("the ledger clock is off", 2 * p.drift_bound_ms),
        Term(f"the disputes of {groups} other groups come first", lane_ms(genesis, groups)),
    )


def least_safe_ms(genesis: Genesis, poll_ms: int = POLL_MS, groups: int = BURST_GROUPS) -> int:
    """The sum: below it, an attack can succeed though all goes as assumed."""
    return sum(term.ms for term in terms(genesis, poll_ms, groups))


def default_period_ms(genesis: Genesis) -> int:
    """Twice the sum, within what the ledger allows."""
    p = genesis.parameters
    return min(max(2 * least_safe_ms(genesis), p.min_challenge_ms), p.max_challenge_ms)


def margin_terms(genesis: Genesis) -> tuple[Term, ...]:
    """The summands of M (rule 22): from a preimage that one learns to its registration, final, in time."""
    p, leaders = genesis.parameters, genesis.replica_set.faults + 1
    burst = -(-BURST_PREIMAGES // PREIMAGES_A_SIGNATURE) * (genesis.replica_set.faults + 2)
    return (
        Term("the wallet looks at its locks again", LOCKS_POLL_MS),
        Term("the clock that it has seen is one heartbeat old", p.heartbeat_ms),
        Term("the registration travels to the replicas and back", p.view_timeout_ms),
        Term("f+1 leaders in a row leave it out", leaders * (p.inclusion_timeout_ms + p.view_timeout_ms)),
        Term("a block with it becomes final", p.view_timeout_ms),
        Term(
            f"{BURST_PREIMAGES} other preimages come first",
            -(-burst // min(BUILD_WEIGHT, block_weight(p))) * p.view_timeout_ms,
        ),
        Term("the ledger clock is off", 2 * p.drift_bound_ms),
    )


def margin_ms(genesis: Genesis) -> int:
    """M: so long before its expiry a lock is claimed off-chain at the latest, by twice as long its payee registers."""
    return sum(term.ms for term in margin_terms(genesis))


def explain_margin(genesis: Genesis) -> str:
    """The computation, line by line, for people."""
    lines = [f"  {format_duration(term.ms):>12}  {term.what}" for term in margin_terms(genesis)]
    return "\n".join([*lines, f"  {format_duration(margin_ms(genesis)):>12}  in all"])


def explain(genesis: Genesis) -> str:
    """The computation, line by line, for people."""
    lines = [f"  {format_duration(term.ms):>12}  {term.what}" for term in terms(genesis)]
    default = format_duration(default_period_ms(genesis))
    return "\n".join([*lines, f"  {format_duration(least_safe_ms(genesis)):>12}  in all; the default is {default}"])


def parse_duration(text: str) -> int:
    """Read ``500ms``, ``30s``, ``10m``, ``24h`` or ``7d``; milliseconds.

    Raises:
        Refused: ``bad_duration``.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Refused("bad_duration", f"{text[:20]!r} is no duration; write 500ms, 30s, 10m, 24h or 7d")
    return int(match["count"]) * _UNITS[match["unit"]]


def format_duration(ms: int) -> str:
    """The two largest units that matter: ``1 d 4 h``, ``2 m 5 s``, ``800 ms``."""
    if ms < 1_000:
        return f"{ms} ms"
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, ms = divmod(ms, _UNITS[unit])
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
