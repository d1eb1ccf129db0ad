"""Byzantine replicas, one role per file: an honest core whose messages are changed on their way in and out.

So they are plausible: they know all that an honest replica knows, sign with their own key, and vote where that helps.
"""

from __future__ import annotations

from tests.simulation.byzantine.role import Role

ROLES: dict[str, type[Role]] = {}
"""By name."""
