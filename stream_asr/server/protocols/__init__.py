"""One pure codec a protocol: its messages to frozen dataclasses and back, without sockets."""
