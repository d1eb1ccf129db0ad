"""What must hold for groups in every run, one property per file."""
