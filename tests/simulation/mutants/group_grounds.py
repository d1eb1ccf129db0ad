"""Where mutants of groups are hunted: two or three wallets over a calm ledger, short and busy, by seeds from 0 on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.groups.scenario import GroupOptions, GroupScenario
from tests.simulation.mutants.registry import Ground
from tests.simulation.network import CALM, PROFILES

WIDE = next(profile for profile in PROFILES if profile.name == "wide")
"""Something is always on its way there."""
CALM_LEDGER: dict[str, Any] = {
    "replicas": 4, "fault_model": "byzantine", "term_views": 64, "profile": CALM, "faults": (), "roles": (), "gone": (),
    "pause_ms": 10_000,
}  # fmt: skip
"""What happens to replicas has its own mutants."""
BUSY: dict[str, Any] = {
    "duration_ms": 3_000, "wallets": 2, "wallet_profile": CALM, "wallet_faults": (), "wallet_roles": (),
    "user_pause_ms": 20, "tight": False,
}  # fmt: skip
SELDOM: dict[str, Any] = {"user_pause_ms": 200}
"""Between two acts of one user: where nothing ends, there is less to wait for."""


def wallets(name: str, **changes: Any) -> Ground:
    """Wallets as `tests.simulation --kind groups` runs them, most options set for all seeds."""

    def run(seed: int) -> str:
        options = replace(GroupOptions.from_seed(seed), **{**CALM_LEDGER, **BUSY, **changes})
        return GroupScenario(options).run().error

    return Ground(name, run)


def beside(role: str, what: str = "", **changes: Any) -> Ground:
    """An honest wallet and a dishonest one."""
    return wallets(", ".join(filter(None, ("wallets", f"one {role}", what))), wallet_roles=((1, role),), **changes)


HONEST = wallets("wallets")
KILLED = wallets("wallets, killed", wallet_faults=("kill", "burn"))
KILLED_WIDE = wallets("wallets far apart, killed", wallet_faults=("kill", "burn"), wallet_profile=WIDE)
CUT = wallets("wallets, links break", wallet_faults=("break",))
FAILING = wallets("wallets, disks fail", wallet_faults=("failing disk",), **SELDOM)
IDLE = wallets("wallets, little to do", **SELDOM)
