"""The path of one stream from samples to events, and the engine that serves all streams."""
