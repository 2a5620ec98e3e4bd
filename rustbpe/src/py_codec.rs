//! What the Python module offers codecs: each function fills arrays of the caller's, with the GIL released.
//!
//! Lengths are checked against each other, so that no content of an array can break anything.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::error::Error;
use crate::rng::Stream;
use crate::{bf16, quantize, topk};

type Floats<'py> = PyReadonlyArray1<'py, f32>;
type FloatsOut<'py> = PyReadwriteArray1<'py, f32>;
type Bytes<'py> = PyReadonlyArray1<'py, u8>;
type BytesOut<'py> = PyReadwriteArray1<'py, u8>;

fn expect(array: &'static str, got: usize, expected: usize) -> Result<(), Error> {
    if got == expected { Ok(()) } else { Err(Error::BadLength { array, got, expected }) }
}

/// A number of bits that codes can have, and a block that ends with a byte.
fn check_blocks(bits: u32, block: usize) -> Result<(), Error> {
    if matches!(bits, 2 | 4 | 8) && block > 0 && (block * bits as usize).is_multiple_of(8) {
        Ok(())
    } else {
        Err(Error::BadBlock { bits, block })
    }
}

fn check_chunks(chunk: usize, k: usize) -> Result<(), Error> {
    if chunk.is_power_of_two() && chunk <= 1 << 16 && (1..=chunk).contains(&k) {
        Ok(())
    } else {
        Err(Error::BadChunk { chunk, k })
    }
}

#[pyfunction]
pub fn encode_bf16(py: Python<'_>, values: Floats<'_>, mut out: BytesOut<'_>) -> PyResult<()> {
    let (values, out) = (values.as_slice()?, out.as_slice_mut()?);
    expect("out", out.len(), 2 * values.len())?;
    py.detach(|| bf16::encode(values, out));
    Ok(())
}

#[pyfunction]
pub fn decode_bf16(py: Python<'_>, data: Bytes<'_>, mut out: FloatsOut<'_>) -> PyResult<()> {
    let (data, out) = (data.as_slice()?, out.as_slice_mut()?);
    expect("data", data.len(), 2 * out.len())?;
    py.detach(|| bf16::decode(data, out));
    Ok(())
}

/// `noise`: a seed and the index of one of its streams, for stochastic rounding.
#[pyfunction]
pub fn encode_absmax(
    py: Python<'_>,
    values: Floats<'_>,
    bits: u32,
    block: usize,
    noise: Option<(u64, u64)>,
    mut scales: BytesOut<'_>,
    mut codes: BytesOut<'_>,
) -> PyResult<()> {
    let (values, scales, codes) = (values.as_slice()?, scales.as_slice_mut()?, codes.as_slice_mut()?);
    check_blocks(bits, block)?;
    expect("scales", scales.len(), 4 * values.len().div_ceil(block))?;
    expect("codes", codes.len(), quantize::packed(values.len(), bits))?;
    let noise = noise.map(|(seed, index)| Stream::new(seed, index));
    py.detach(|| quantize::encode_absmax(values, bits, block, noise, scales, codes));
    Ok(())
}

#[pyfunction]
pub fn decode_absmax(
    py: Python<'_>,
    scales: Bytes<'_>,
    codes: Bytes<'_>,
    bits: u32,
    block: usize,
    mut out: FloatsOut<'_>,
) -> PyResult<()> {
    let (scales, codes, out) = (scales.as_slice()?, codes.as_slice()?, out.as_slice_mut()?);
    check_blocks(bits, block)?;
    expect("scales", scales.len(), 4 * out.len().div_ceil(block))?;
    expect("codes", codes.len(), quantize::packed(out.len(), bits))?;
    py.detach(|| quantize::decode_absmax(scales, codes, bits, block, out));
    Ok(())
}

#[pyfunction]
pub fn encode_quantile(
    py: Python<'_>,
    values: Floats<'_>,
    bits: u32,
    block: usize,
    mut levels: BytesOut<'_>,
    mut codes: BytesOut<'_>,
) -> PyResult<()> {
    let (values, levels, codes) = (values.as_slice()?, levels.as_slice_mut()?, codes.as_slice_mut()?);
    check_blocks(bits, block)?;
    expect("levels", levels.len(), (4 << bits) * values.len().div_ceil(block))?;
    expect("codes", codes.len(), quantize::packed(values.len(), bits))?;
    py.detach(|| quantize::encode_quantile(values, bits, block, levels, codes));
    Ok(())
}

#[pyfunction]
pub fn decode_quantile(
    py: Python<'_>,
    levels: Bytes<'_>,
    codes: Bytes<'_>,
    bits: u32,
    block: usize,
    mut out: FloatsOut<'_>,
) -> PyResult<()> {
    let (levels, codes, out) = (levels.as_slice()?, codes.as_slice()?, out.as_slice_mut()?);
    check_blocks(bits, block)?;
    expect("levels", levels.len(), (4 << bits) * out.len().div_ceil(block))?;
    expect("codes", codes.len(), quantize::packed(out.len(), bits))?;
    py.detach(|| quantize::decode_quantile(levels, codes, bits, block, out));
    Ok(())
}

#[pyfunction]
pub fn encode_topk(
    py: Python<'_>,
    values: Floats<'_>,
    chunk: usize,
    k: usize,
    mut indices: BytesOut<'_>,
    mut chosen: FloatsOut<'_>,
) -> PyResult<()> {
    let (values, indices, chosen) = (values.as_slice()?, indices.as_slice_mut()?, chosen.as_slice_mut()?);
    check_chunks(chunk, k)?;
    let count = topk::kept_of_all(values.len(), chunk, k);
    expect("chosen", chosen.len(), count)?;
    expect("indices", indices.len(), topk::packed(count, chunk))?;
    py.detach(|| topk::encode(values, chunk, k, indices, chosen));
    Ok(())
}

/// `indices` may hold more than those of `out`; the first of `out` has number `first` among them.
#[pyfunction]
pub fn decode_topk(
    py: Python<'_>,
    indices: Bytes<'_>,
    first: usize,
    chosen: Floats<'_>,
    chunk: usize,
    k: usize,
    mut out: FloatsOut<'_>,
) -> PyResult<()> {
    let (indices, chosen, out) = (indices.as_slice()?, chosen.as_slice()?, out.as_slice_mut()?);
    check_chunks(chunk, k)?;
    expect("chosen", chosen.len(), topk::kept_of_all(out.len(), chunk, k))?;
    let least = topk::packed(first + chosen.len(), chunk);
    expect("indices", indices.len().min(least), least)?;
    Ok(py.detach(|| topk::decode(indices, first, chosen, chunk, k, out))?)
}
