"""What Hydra and OmegaConf refuse, told in one line, and checks of what they would fail on."""
