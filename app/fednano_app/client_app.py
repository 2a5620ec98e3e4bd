"""What a SuperNode runs for every message; imports no torch."""

from fednano.flower import relay

app = relay.app
