"""Dishonest wallets, one role per file: an honest wallet whose messages, signatures and disk somebody plays with."""

from __future__ import annotations

from tests.simulation.groups.roles.role import Role

ROLES: dict[str, type[Role]] = {}
"""By name."""
