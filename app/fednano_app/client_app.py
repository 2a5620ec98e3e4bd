"""What a SuperNode runs for every message, or a process of Flower's simulation; imports no torch by itself."""

from fednano.runtime import entry

app = entry.app
