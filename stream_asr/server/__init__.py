"""Server: websocket and HTTP protocols for one recognizer. `app.create_app` assembles the application."""
