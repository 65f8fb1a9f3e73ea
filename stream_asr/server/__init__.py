"""The server: websocket and HTTP protocols in front of one recognizer. `app.create_app` puts it together."""
