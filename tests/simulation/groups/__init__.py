"""Whole wallets over a whole ledger: the real host, watcher, openings and client, in simulated processes.

What runs is the product's own: `GroupHost`, `Follower`, `Submitter`, `Openings`, `Channel`, `LedgerClient`. What they
stand on is simulated: the event loop is a process of the world, the journal is a disk that loses what was not synced,
links are those of `tests.simulation.network`, and HTTP is a question to a simulated replica.

Source: docs/design/groups.md; docs/design/style.md, "How their tests read".
"""
