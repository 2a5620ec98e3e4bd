"""The ClientApp of a SuperNode or a process of Flower's simulation, run for every message; imports no torch itself."""

from fednano.flower_app import client_app as entry

app = entry.app
