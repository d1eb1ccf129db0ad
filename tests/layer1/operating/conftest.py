"""Fixtures of this folder."""

from tests.layer1.operating.homes import home, original

__all__ = ["home", "original"]
