"""OpenAI's transcription endpoint and realtime protocol."""
