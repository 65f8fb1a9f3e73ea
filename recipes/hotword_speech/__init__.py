"""Synthesize the recordings of the hotword benchmark."""
