"""Data: corpora as Parquet shards, the ledger of rows, and the batch loader."""
