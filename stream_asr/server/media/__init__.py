"""Encoded audio of server sessions: uploads and streamed containers."""
