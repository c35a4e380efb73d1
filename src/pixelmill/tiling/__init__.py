"""Runs pipelines over images larger than memory, tile by tile. Knows passes and regions, no operation and no codec."""
