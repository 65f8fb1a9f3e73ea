"""OpenAI's interfaces: transcriptions over HTTP (``/v1/audio``) and the Realtime API (``/v1/realtime``)."""
