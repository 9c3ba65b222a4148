"""Other servers' protocols, on the same classifier."""
