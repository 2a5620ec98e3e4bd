"""Pretraining GPT-style language models with federated learning on volatile clients."""
