"""Moonshine: the architecture of the embedded model."""
