"""One file per resource: its routes, and what stands behind them."""
