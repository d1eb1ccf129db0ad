"""The service that holds certificates for witnessed groups: `wallet witness serve`."""
