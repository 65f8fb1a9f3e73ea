"""Sessions: state that outlives a connection."""
