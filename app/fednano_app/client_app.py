"""What a SuperNode runs for every message, or a process of Flower's simulation; imports no torch by itself."""

from fednano.flower_app import client_app as entry

app = entry.app
