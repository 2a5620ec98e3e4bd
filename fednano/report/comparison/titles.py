"""Titles: what figures of the summary are called where a paper would show them."""

TITLES = {
    "val_bpb": "validation bits per byte",
    "val_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
    "tokens": "tokens",
    "tokens_per_s": "tokens per second",
    "wall_s": "wall-clock time (s)",
    "train_s": "training time (s)",
    "virtual_s": "virtual time (s)",
    "bytes.up": "bytes from clients",
    "bytes.down": "bytes to clients",
    "energy_kwh": "energy (kWh)",
    "energy.total.kwh": "energy (kWh)",
    "co2_g": "CO₂ (g)",
    "energy.total.co2_g": "CO₂ (g)",
}


def title(metric: str) -> str:
    """The title of a figure; its key if it has none."""
    return TITLES.get(metric, metric)
