"""Which release this is, and what its data and its links are compatible with."""

RELEASE = "0.1.0"
"""As in `pyproject.toml`."""
DATA_FORMAT = 5
"""Of a data directory as a whole. Rises when an older release must not touch what this one wrote."""
