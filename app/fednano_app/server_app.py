"""The ServerApp that a SuperLink runs."""

from fednano.flower_app import server_app as serve

app = serve.app
