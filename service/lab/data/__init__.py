"""Photographs and their features."""
