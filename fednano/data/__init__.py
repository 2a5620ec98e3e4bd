"""Corpora as parquet shards, the row ledger and the loader."""
