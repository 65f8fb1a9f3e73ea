"""Moonshine: the architecture of the bundled model."""
