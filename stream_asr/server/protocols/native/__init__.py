"""The native protocol, ``/v1/stream``."""
