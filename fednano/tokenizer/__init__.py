"""Byte-level BPE over the Rust core."""
