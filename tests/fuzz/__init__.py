"""Hostile input: every decoder, link message and HTTP route. `python -m tests.fuzz --seconds 60` goes on for longer."""
