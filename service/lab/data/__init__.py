"""Reads photographs and computes their features."""
