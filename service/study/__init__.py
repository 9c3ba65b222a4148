"""Compares the heads of a store: reads cards and the host's last report; runs and measures nothing."""
