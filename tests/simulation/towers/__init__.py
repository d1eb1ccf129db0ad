"""Watchtowers against the real rules of layer 1: honest ones among liars and crashes, and ones that lie."""
