//! The Python module: converts arguments and results, and releases the GIL around the work.
//!
//! Arrays come as buffers and go as bytearrays in native byte order, which NumPy views without a copy.

use std::ops::ControlFlow;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyByteArray, PyBytes, PyString};

use crate::error::Error;
use crate::split::Pattern;
use crate::{count, encode, train};

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        PyValueError::new_err(error.to_string())
    }
}

enum Text {
    Str(PyBackedStr),
    Bytes(PyBackedBytes),
}

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    /// A str with a lone surrogate gives the UnicodeEncodeError as it is.
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            return object.extract().map(Self::Str);
        }
        object.extract().map(Self::Bytes).map_err(|_| {
            let kind = object.get_type();
            PyTypeError::new_err(format!("a text is of the type {kind}; pass str or bytes"))
        })
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Str(text) => text.as_bytes(),
            Self::Bytes(text) => text,
        }
    }
}

fn bytes_of(texts: &[Text]) -> Vec<&[u8]> {
    texts.iter().map(Text::as_bytes).collect()
}

/// The texts between neighbouring `offsets` of `data`.
fn spans<'a>(data: &'a [u8], offsets: &[i64]) -> Result<Vec<&'a [u8]>, Error> {
    let span = |(index, ends): (usize, &[i64])| {
        let (start, end) = (usize::try_from(ends[0]).ok()?, usize::try_from(ends[1]).ok()?);
        Some(data.get(start..end).ok_or(Error::BadOffsets { index }))
    };
    let checked = offsets.windows(2).enumerate();
    checked.map(|(index, ends)| span((index, ends)).unwrap_or(Err(Error::BadOffsets { index }))).collect()
}

/// The pre-tokens of one text.
#[pyfunction]
fn split<'py>(py: Python<'py>, pattern: &str, text: Text) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    Ok(Pattern::named(pattern)?.split(text.as_bytes()).into_iter().map(|word| PyBytes::new(py, word)).collect())
}

/// The regular expression behind a pattern's name.
#[pyfunction]
fn regex(pattern: &str) -> PyResult<&'static str> {
    Ok(Pattern::named(pattern)?.regex())
}

/// Counts pre-tokens of texts that come in batches, then finds the merges.
#[pyclass]
struct Trainer {
    counter: Option<count::Counter>,
}

impl Trainer {
    fn counter(&mut self) -> PyResult<&mut count::Counter> {
        self.counter.as_mut().ok_or_else(|| PyValueError::new_err("this trainer has trained; make a new one"))
    }
}

#[pymethods]
impl Trainer {
    #[new]
    fn new(pattern: &str, threads: usize) -> PyResult<Self> {
        Ok(Self { counter: Some(count::Counter::new(Pattern::named(pattern)?, threads)) })
    }

    fn update(&mut self, py: Python<'_>, texts: Vec<Text>) -> PyResult<()> {
        let counter = self.counter()?;
        py.detach(|| counter.update(&bytes_of(&texts)));
        Ok(())
    }

    /// The texts between neighbouring `offsets` (int64) of `data`.
    fn update_spans(&mut self, py: Python<'_>, data: PyBackedBytes, offsets: PyBuffer<i64>) -> PyResult<()> {
        let offsets = offsets.to_vec(py)?;
        let counter = self.counter()?;
        Ok(py.detach(|| spans(&data, &offsets).map(|texts| counter.update(&texts)))?)
    }

    /// Up to `merges` pairs of ids (uint32), in order; `ties` names the rule for equal counts.
    /// `progress(merges so far)` may raise to break off.
    fn train<'py>(
        &mut self,
        py: Python<'py>,
        merges: usize,
        ties: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let ties = train::Ties::named(ties)?;
        self.counter()?;
        let counter = self.counter.take();
        let mut failure = Ok(());
        let mut report = |done: usize| {
            failure = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done,)).map(drop))
            });
            if failure.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let words = py.detach(|| counter.map(count::Counter::finish).unwrap_or_default());
        let found = py.detach(|| train::train(&words, merges, ties, &mut report))?;
        failure?;
        let flat: Vec<u32> = found.into_iter().flat_map(|(left, right)| [left, right]).collect();
        bytearray(py, &[flat], u32::to_ne_bytes)
    }
}

/// Encodes and decodes with given merges.
#[pyclass(frozen)]
struct Bpe(encode::Bpe);

#[pymethods]
impl Bpe {
    /// `merges`: pairs of ids (uint32), one after the other.
    #[new]
    fn new(py: Python<'_>, pattern: &str, merges: PyBuffer<u32>, specials: Vec<PyBackedStr>) -> PyResult<Self> {
        let flat = merges.to_vec(py)?;
        let pairs: Vec<(u32, u32)> = flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let specials: Vec<&[u8]> = specials.iter().map(|special| special.as_bytes()).collect();
        Ok(Self(encode::Bpe::new(Pattern::named(pattern)?, &BYTE_ORDER, &pairs, &specials)?))
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    /// Bytes per id (uint32), 0 for specials.
    fn token_lengths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        bytearray(py, &[self.0.token_lengths()], u32::to_ne_bytes)
    }

    /// Ids (uint16, or uint32 if `wide`) of all texts, and the number of ids of each text (uint64).
    fn encode<'py>(&self, py: Python<'py>, texts: Vec<Text>, threads: usize) -> PyResult<Encoded<'py>> {
        let encoded = py.detach(|| self.0.encode(&bytes_of(&texts), threads))?;
        arrays(py, &encoded)
    }

    /// As `encode`, for the texts between neighbouring `offsets` (int64) of `data`.
    fn encode_spans<'py>(
        &self,
        py: Python<'py>,
        data: PyBackedBytes,
        offsets: PyBuffer<i64>,
        threads: usize,
    ) -> PyResult<Encoded<'py>> {
        let offsets = offsets.to_vec(py)?;
        let encoded = py.detach(|| self.0.encode(&spans(&data, &offsets)?, threads))?;
        arrays(py, &encoded)
    }

    /// The bytes of `ids` (uint32).
    fn decode<'py>(&self, py: Python<'py>, ids: PyBuffer<u32>) -> PyResult<Bound<'py, PyBytes>> {
        let ids = ids.to_vec(py)?;
        let bytes = py.detach(|| self.0.decode(&ids))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

type Encoded<'py> = (Bound<'py, PyByteArray>, Bound<'py, PyByteArray>);

fn arrays<'py>(py: Python<'py>, encoded: &encode::Encoded) -> PyResult<Encoded<'py>> {
    let size = encoded.parts.iter().map(Vec::len).sum();
    let ids = PyByteArray::new_with(py, size, |mut buffer| {
        for part in &encoded.parts {
            let (place, rest) = buffer.split_at_mut(part.len());
            place.copy_from_slice(part);
            buffer = rest;
        }
        Ok(())
    })?;
    let counts: Vec<u64> = encoded.counts.iter().map(|count| *count as u64).collect();
    Ok((ids, bytearray(py, &[counts], u64::to_ne_bytes)?))
}

const BYTE_ORDER: [u8; 256] = {
    let mut order = [0; 256];
    let mut at = 0;
    while at < 256 {
        order[at] = at as u8;
        at += 1;
    }
    order
};

/// All numbers of `parts`, one after the other, each as `SIZE` bytes.
fn bytearray<'py, T: Copy, const SIZE: usize>(
    py: Python<'py>,
    parts: &[Vec<T>],
    to_bytes: impl Fn(T) -> [u8; SIZE],
) -> PyResult<Bound<'py, PyByteArray>> {
    let numbers: usize = parts.iter().map(Vec::len).sum();
    PyByteArray::new_with(py, numbers * SIZE, |buffer| {
        for (place, number) in buffer.chunks_exact_mut(SIZE).zip(parts.iter().flatten()) {
            place.copy_from_slice(&to_bytes(*number));
        }
        Ok(())
    })
}

#[pymodule]
mod fednano_rustbpe {
    #[pymodule_export]
    use super::{Bpe, Trainer, regex, split};
}
