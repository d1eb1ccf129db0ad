"""Stories: one group with all who look after it, an adversary, and the real ledger, block by block.

Members, witnesses, watchtowers and standbys are the product's cores and drivers on simulated loops, links and disks.
Layer 1 is its state machine, which executes the blocks; whether replicas agree on them is what the other runs ask.
"""
