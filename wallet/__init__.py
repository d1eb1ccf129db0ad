"""The wallet: keys, channels and the watch over them, as a library and a command."""
