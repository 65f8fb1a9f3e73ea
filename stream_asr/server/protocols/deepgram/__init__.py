"""Deepgram's interface, ``/v1/listen``: live streams and recordings."""
