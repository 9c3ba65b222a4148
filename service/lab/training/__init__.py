"""Trains heads, compares them fairly, and records how that was done."""
