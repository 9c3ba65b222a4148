"""Reads a saved model, cuts it into backbone and head, compiles, checks and publishes them."""
