"""Routes through a network of channels: the graph, announcements, paths, parts and chances; no I/O here."""
