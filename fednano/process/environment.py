"""Environment variables for the libraries that the processes of a run import."""

# Without these, Flower and Ray call home and do more than they are asked to.
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray warns that it will change this one day
    # Otherwise, under `uv run`, Ray copies the working directory and every worker installs it first.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
