"""Invoices: what a payee signs so that others can pay it, and the proof that it was paid (decision 038)."""
