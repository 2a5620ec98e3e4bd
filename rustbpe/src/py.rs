//! The Python module.

#[pyo3::pymodule]
mod fednano_rustbpe {}
