"""Forwarding payments of others: one incoming lock becomes one outgoing lock. The core; without I/O."""
