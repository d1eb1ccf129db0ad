"""Tests that mirror the packages; see docs/design/style.md."""
