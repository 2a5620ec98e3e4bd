"""The ServerApp: Flower's door to the round loop."""

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp


def make_server_app(serve: Callable[[Grid], None]) -> ServerApp:
    """A ServerApp that has `serve` run the federation on the grid that it is given."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(grid)

    return app
