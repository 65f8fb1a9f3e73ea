"""The command line program ``stream-asr``."""
