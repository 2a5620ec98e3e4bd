//! The Python module: converts arguments and results, and releases the GIL around the work.
//!
//! Arrays come and go without a copy.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use numpy::{Element, PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};

use crate::error::Error;
use crate::split::Pattern;
use crate::{arrow, count, encode, parallel, texts, train};

/// Between two looks at signals, so many bytes are counted.
const INTERRUPTIBLE_BYTES: usize = 1 << 24;

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

/// Texts of Python's own, or rows of an Arrow array.
enum Texts {
    List(Vec<Text>),
    Arrow(texts::Batch),
}

impl<'py> FromPyObject<'_, 'py> for Texts {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast::<ArrowBatch>() {
            Ok(batch) => Ok(Self::Arrow(batch.get().0.clone())),
            Err(_) => object.extract().map(Self::List),
        }
    }
}

impl Texts {
    fn as_slices(&self) -> Result<Vec<&[u8]>, Error> {
        match self {
            Self::List(texts) => Ok(texts.iter().map(Text::as_bytes).collect()),
            Self::Arrow(batch) => batch.texts(),
        }
    }
}

/// Texts of an object that has the method `__arrow_c_stream__` or `__arrow_c_array__`, in batches of about `bytes`, at
/// most `texts` of them in one.
#[pyclass(frozen)]
struct ArrowBatches(Mutex<texts::Batches>);

#[pymethods]
impl ArrowBatches {
    #[new]
    fn new(source: &Bound<'_, PyAny>, bytes: usize, texts: usize) -> PyResult<Self> {
        let arrays = arrow::Arrays::of(source)?;
        Ok(Self(Mutex::new(texts::Batches::new(arrays, bytes, texts))))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<ArrowBatch>> {
        // A stream may wait for threads that want the GIL.
        let next = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next_batch())?;
        Ok(next.map(ArrowBatch))
    }
}

#[pyclass(frozen)]
struct ArrowBatch(texts::Batch);

#[pymethods]
impl ArrowBatch {
    /// Bytes of all texts.
    #[getter]
    fn bytes(&self) -> usize {
        self.0.bytes
    }
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

    /// Counts `texts`. `progress(bytes counted since the last call)` may raise to break off.
    fn update(&mut self, py: Python<'_>, texts: Texts, progress: Option<Py<PyAny>>) -> PyResult<()> {
        let counter = self.counter()?;
        let texts = texts.as_slices()?;
        let pieces: Vec<&[u8]> = py.detach(|| parallel::pieces(&texts)).iter().map(|piece| piece.bytes).collect();
        let mut start = 0;
        while start < pieces.len() {
            let (mut end, mut bytes) = (start, 0);
            while end < pieces.len() && bytes < INTERRUPTIBLE_BYTES {
                bytes += pieces[end].len();
                end += 1;
            }
            py.detach(|| counter.update(&pieces[start..end]));
            py.check_signals()?;
            progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (bytes,)).map(drop))?;
            start = end;
        }
        Ok(())
    }

    /// Up to `merges` pairs of ids, one after the other. `ties` names a rule. `progress(merges so far)` may raise to
    /// break off.
    fn train<'py>(
        &mut self,
        py: Python<'py>,
        merges: usize,
        ties: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
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
        Ok(PyArray1::from_vec(py, found.into_iter().flat_map(|(left, right)| [left, right]).collect()))
    }
}

/// Encodes and decodes with given merges.
#[pyclass(frozen)]
struct Bpe(encode::Bpe);

#[pymethods]
impl Bpe {
    /// `byte_order`: the bytes that the ids 0 to 255 stand for. `merges`: pairs of ids, one after the other.
    #[new]
    fn new(
        pattern: &str,
        byte_order: &[u8],
        merges: PyReadonlyArray1<'_, u32>,
        specials: Vec<PyBackedStr>,
    ) -> PyResult<Self> {
        let byte_order = byte_order.try_into().map_err(|_| Error::BadByteOrder)?;
        let pairs: Vec<(u32, u32)> =
            merges.as_slice()?.as_chunks().0.iter().map(|[left, right]| (*left, *right)).collect();
        let specials: Vec<&[u8]> = specials.iter().map(|special| special.as_bytes()).collect();
        Ok(Self(encode::Bpe::new(Pattern::named(pattern)?, byte_order, &pairs, &specials)?))
    }

    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    /// Bytes per id, 0 for specials.
    fn token_lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_vec(py, self.0.token_lengths())
    }

    /// Ids of all texts, and the number of ids of each text.
    fn encode<'py>(&self, py: Python<'py>, texts: Texts, threads: usize) -> PyResult<Encoded<'py>> {
        let texts = texts.as_slices()?;
        if self.0.is_wide() {
            self.encode_as::<u32>(py, &texts, threads)
        } else {
            self.encode_as::<u16>(py, &texts, threads)
        }
    }

    /// Writes the ids of all texts to the front of `buffer` if it has room for them; how many they are.
    fn encode_into(&self, py: Python<'_>, texts: Texts, threads: usize, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let texts = texts.as_slices()?;
        if self.0.is_wide() {
            self.encode_into_as::<u32>(py, &texts, threads, buffer)
        } else {
            self.encode_into_as::<u16>(py, &texts, threads, buffer)
        }
    }

    /// The bytes of `ids`.
    fn decode<'py>(&self, py: Python<'py>, ids: Ids<'_>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = match &ids {
            Ids::Narrow(ids) => {
                let ids = ids.as_slice()?;
                py.detach(|| self.0.decode(ids))
            }
            Ids::Wide(ids) => {
                let ids = ids.as_slice()?;
                py.detach(|| self.0.decode(ids))
            }
        };
        Ok(PyBytes::new(py, &bytes?))
    }
}

#[derive(FromPyObject)]
enum Ids<'py> {
    Narrow(PyReadonlyArray1<'py, u16>),
    Wide(PyReadonlyArray1<'py, u32>),
}

type Encoded<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<i64>>);

impl Bpe {
    fn encode_as<'py, I: encode::Id + Element>(
        &self,
        py: Python<'py>,
        texts: &[&[u8]],
        threads: usize,
    ) -> PyResult<Encoded<'py>> {
        let (ids, counts) = py.detach(|| {
            let encoded = self.0.encode::<I>(texts, threads)?;
            let counts = encoded.counts.iter().map(|count| *count as i64).collect();
            Ok::<_, Error>((encoded.into_ids(), counts))
        })?;
        Ok((PyArray1::from_vec(py, ids).into_any(), PyArray1::from_vec(py, counts)))
    }

    fn encode_into_as<I: encode::Id + Element>(
        &self,
        py: Python<'_>,
        texts: &[&[u8]],
        threads: usize,
        buffer: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let mut buffer: PyReadwriteArray1<'_, I> = buffer.extract()?;
        let mut rest = buffer.as_slice_mut()?;
        Ok(py.detach(|| {
            let encoded = self.0.encode::<I>(texts, threads)?;
            let needed = encoded.parts.iter().map(Vec::len).sum();
            if needed <= rest.len() {
                for part in &encoded.parts {
                    let (place, behind) = std::mem::take(&mut rest).split_at_mut(part.len());
                    place.copy_from_slice(part);
                    rest = behind;
                }
            }
            Ok::<_, Error>(needed)
        })?)
    }
}

#[pymodule]
mod fednano_rustbpe {
    #[pymodule_export]
    use super::{ArrowBatch, ArrowBatches, Bpe, Trainer, regex, split};
    #[pymodule_export]
    use crate::py_codec::{
        decode_absmax, decode_bf16, decode_quantile, decode_topk, encode_absmax, encode_bf16, encode_quantile,
        encode_topk,
    };
    #[pymodule_export]
    use crate::py_sums::{accumulate, squares};
}
