"""Quantizes backbones to int8."""
