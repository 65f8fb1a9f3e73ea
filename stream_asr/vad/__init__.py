"""Voice activity detection, and the endpointer that divides a stream into utterances."""
