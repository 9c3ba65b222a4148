"""Decodes and resizes pictures to a head's input. Training uses it too."""
