"""One stream, and the loop over all streams."""
