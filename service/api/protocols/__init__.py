"""Protocols of other model servers, on the same classifier."""
