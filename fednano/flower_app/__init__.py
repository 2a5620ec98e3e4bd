"""Apps and run configuration of the bundle for Flower's own command, `flwr run`."""
