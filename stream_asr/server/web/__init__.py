"""Pages, static files and health checks."""
