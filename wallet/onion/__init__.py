"""Onion packets: each hop of a route learns its neighbours and what to forward, and nothing else (decision 037)."""
