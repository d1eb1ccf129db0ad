"""Broken variants of consensus and ledger, each of which some run must find within a stated number of seeds.

A checker that nothing ever trips proves nothing. Each mutant is a plausible bug: one sentence of the design turned
around, in one place, named for what it breaks. Seeds are tried in order from 0; the first run that violates a property
ends the hunt.

    python -m tests.simulation.mutants              hunt all, and print a table
    python -m tests.simulation.mutants NAME ...     some

Source: docs/design/style.md, "Keep broken variants as mutants"; docs/design/consensus.md.
"""
