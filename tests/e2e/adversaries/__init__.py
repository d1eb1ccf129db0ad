"""Dishonest members as processes, one per file, each with the tests that an honest `wallet serve` stands it.

See docs/adversaries.md for all of them, and for their roles in the simulator.
"""
