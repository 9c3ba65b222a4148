"""Compares the heads of a store from their cards and the host's last report. It runs no model."""
