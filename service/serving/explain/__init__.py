"""Explains answers: the evidence at each position, and the effect of moving the picture."""
