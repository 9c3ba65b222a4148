"""Finds out by photographs, sorted by class, what was done to pixels when a model was trained."""
