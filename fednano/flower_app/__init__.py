"""What Flower's own command, `flwr run`, needs: the apps of the bundle and its run configuration."""
