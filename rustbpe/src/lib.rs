//! The core of fednano's byte-level BPE tokenizer. Everything but `py` is free of Python.
//!
//! `split` cuts text into pre-tokens, `count` counts them, `train` finds the merges, `encode` applies them and undoes
//! them, and `parallel` shares out the work of the two that read whole texts. Training keeps the distinct pre-tokens in
//! `text` and what may be merged next in `pairs`.

mod blocks;
mod cache;
pub mod count;
pub mod encode;
pub mod error;
pub mod merge;
mod pairs;
pub mod parallel;
pub mod split;
mod text;
pub mod train;
pub mod word;

#[cfg(feature = "python")]
mod py;
