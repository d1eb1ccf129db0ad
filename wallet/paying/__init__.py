"""Payments by locks: over any route, in parts, tried until they are paid or certainly not (decisions 038, 042)."""
