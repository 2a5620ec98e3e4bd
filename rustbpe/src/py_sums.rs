//! What the Python module offers for merging: sums, with the GIL released.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::sums;

#[pyfunction]
pub fn squares(py: Python<'_>, values: PyReadonlyArray1<'_, f32>) -> PyResult<f64> {
    let values = values.as_slice()?;
    Ok(py.detach(|| sums::squares(values)))
}

#[pyfunction]
pub fn accumulate(
    py: Python<'_>,
    mut total: PyReadwriteArray1<'_, f64>,
    mut rest: PyReadwriteArray1<'_, f32>,
    values: PyReadonlyArray1<'_, f32>,
    weight: f64,
) -> PyResult<()> {
    let (total, rest, values) = (total.as_slice_mut()?, rest.as_slice_mut()?, values.as_slice()?);
    if total.len() != values.len() || rest.len() != values.len() {
        return Err(PyValueError::new_err("total, rest and values must have the same length"));
    }
    py.detach(|| sums::accumulate(total, rest, values, weight));
    Ok(())
}
