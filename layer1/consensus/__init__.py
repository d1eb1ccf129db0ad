"""Simplex with leader terms, as a core without I/O."""
