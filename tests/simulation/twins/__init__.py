"""Twins: a replica under whose key two copies run, in networks that are cut anew in each round.

Each copy is honest code; together they say everything that a Byzantine replica can say by contradicting itself:
two proposals in one view, votes for both, a finalize vote here and a nullify vote there. So attacks need not be
invented; they are enumerated.

    python -m tests.simulation --twins exhaustive            all small scenarios
    python -m tests.simulation --twins random --count 10000  larger ones, at random
    python -m tests.simulation --twins random --seed 7       replay one with a readable trace

Source: Bano et al., Twins: BFT Systems Made Robust (OPODIS 2021), sections 4 and 5.
Deviation: leaders follow from views and the length of terms, as in the protocol, instead of from a table; which replica
has the twin, the first view and the length of terms vary instead. A message that a cut drops is said again later by
rule 10, as the cores do in earnest, so that no cut holds a run up for ever.
"""
