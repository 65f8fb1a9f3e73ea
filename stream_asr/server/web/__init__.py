"""Static pages, health checks, and the response to unknown websocket paths."""
