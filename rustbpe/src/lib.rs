//! The cores of fednano's byte-level BPE tokenizer and of its codecs.
//!
//! `split` cuts text into pre-tokens, `count` counts them, `train` finds the merges, `encode` applies them and undoes
//! them, and `parallel` shares out the work of the two that read whole texts. Training keeps the distinct pre-tokens in
//! `text` and what may be merged next in `pairs`; encoding keeps what it knows in `cache` and asks `merge` for the rest.
//!
//! `bf16`, `quantize` and `topk` encode updates; `rng` draws what they round by.
//!
//! `sums` adds up updates.
//!
//! None of these knows of Python. `py` is the Python module, with what codecs need in `py_codec` and what merging needs
//! in `py_sums`; `arrow` borrows the arrays of other libraries for it, and `texts` finds the texts in them.

pub mod bf16;
mod blocks;
mod cache;
pub mod count;
pub mod encode;
pub mod error;
pub mod merge;
mod pairs;
pub mod parallel;
pub mod quantize;
pub mod rng;
pub mod split;
pub mod sums;
mod text;
pub mod topk;
pub mod train;
pub mod word;

#[cfg(feature = "python")]
mod arrow;
#[cfg(feature = "python")]
mod py;
#[cfg(feature = "python")]
mod py_codec;
#[cfg(feature = "python")]
mod py_sums;
#[cfg(feature = "python")]
mod texts;
