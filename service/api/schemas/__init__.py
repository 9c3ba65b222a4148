"""What goes over the wire. No FastAPI here: the client imports it."""
