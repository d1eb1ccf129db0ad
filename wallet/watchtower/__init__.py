"""The service that watches layer 1 for others: `wallet watchtower serve`."""
