"""Layer 2: small fault-safe groups, two members for a payment channel; every member signs every state."""
