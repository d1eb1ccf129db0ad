"""Real replica processes that are killed, stopped, cut off, slowed down, skewed and joined by a liar."""
