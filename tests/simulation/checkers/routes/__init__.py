"""What must hold of payments over routes, one property per file; issue 6, "Checkers"."""
