"""What must hold of locks, one property per file; rules 20 to 23 of docs/design/groups.md."""
