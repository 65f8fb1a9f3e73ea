"""SessionRegistry: state that outlives a connection."""
