"""One replica: consensus, mempool, execution and catch-up as cores, and the asyncio driver around them."""
