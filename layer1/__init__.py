"""Layer 1: a fault-tolerant replicated ledger that opens, closes and settles small groups."""
