"""Forwarding payments of others: one incoming lock becomes one outgoing one. A core without I/O, and its driver."""
