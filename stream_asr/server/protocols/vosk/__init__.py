"""The Vosk server protocol."""
