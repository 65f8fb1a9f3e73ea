"""Encoded audio of server sessions: uploads and container streams."""
