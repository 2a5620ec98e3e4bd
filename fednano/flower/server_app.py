"""The ServerApp, through which Flower runs the round loop."""

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp


def make_server_app(serve: Callable[[Grid], None]) -> ServerApp:
    """A ServerApp that calls `serve` with its grid to run the federation."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(grid)

    return app
