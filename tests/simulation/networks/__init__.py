"""Stories of networks: channels between pairs of wallets, and conditional payments over them.

A network is a story (`tests.simulation.stories`) in which each group has two members, and each wallet has its locks
besides: `wallet.locking`, the real one. `python -m tests.simulation --networks`.
"""
