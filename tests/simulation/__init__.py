"""Whole networks of the real cores on fake time, fake links and fake disks, from one seed.

A run is a safety phase, in which anything may fail, and a liveness phase, in which the network heals and everything
that was submitted must end within a stated bound. Faults are one role per file, checked properties one per file.

    python -m tests.simulation --seed 7          replay one run with a readable trace
    python -m tests.simulation --seeds 0..999    run many on all cores

Source: docs/design/style.md, "How their tests read".
"""
