"""How an update is encoded on the wire."""
