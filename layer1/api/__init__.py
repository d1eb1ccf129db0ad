"""The HTTP API of a replica: queries with proofs, submission, events, metrics."""
