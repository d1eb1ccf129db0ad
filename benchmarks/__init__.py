"""Measured claims: every figure stands beside the floor of the same run on the same machine."""
