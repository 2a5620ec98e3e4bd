//! The core of fednano's byte-level BPE tokenizer. Everything but `py` is free of Python.

#[cfg(feature = "python")]
mod py;
