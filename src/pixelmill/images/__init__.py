"""Pixels in and out: probe, limits, decode with a need, encode."""
