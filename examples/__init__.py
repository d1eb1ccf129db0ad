"""Payment demos, each runnable by one line; see the README."""
