"""Codecs: how an update is encoded on the wire."""
