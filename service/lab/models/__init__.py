"""Reads a saved model, cuts it into backbone and head, compiles, proves and publishes them."""
