"""The protocol of Vosk's websocket server, ``/vosk`` and ``/``."""
