"""What a SuperLink runs."""

from fednano import serve

app = serve.app
