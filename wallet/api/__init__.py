"""The wallet's HTTP API: all that one can ask of a wallet, over a Unix socket and, for holders of tokens, TCP."""
