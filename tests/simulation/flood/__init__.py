"""The flood: every group is wedged with a stale state at once, while the ledger has more transfers than it can take.

Whole replicas on the simulator's clock, each on a processor of its own that takes its time for all it does. Watchers
of the honest members report; every report must be final before its deadline.

Source: docs/design/groups.md, rules 9 and 18; docs/flood.md.
"""
