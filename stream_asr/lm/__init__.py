"""Word language models: made from text, kept in a file, asked while words are being spelt."""
