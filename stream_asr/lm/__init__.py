"""Word n-gram language models: estimation from text, storage, and queries."""
