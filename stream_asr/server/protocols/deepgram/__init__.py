"""Deepgram's live protocol, ``/v1/listen``."""
