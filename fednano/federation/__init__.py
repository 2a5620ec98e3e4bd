"""The server's loop: who is up, what they train, what becomes of their updates."""
