"""The protocols of the server. Each folder contains pure codecs and thin routes; `registry` lists the routes."""
