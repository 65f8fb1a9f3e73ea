"""Decoding: from the output of an acoustic model to words."""
