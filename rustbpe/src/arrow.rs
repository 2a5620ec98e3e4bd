//! Texts in Arrow arrays, read where they lie through the Arrow C data interface.
//!
//! All of the crate's unsafe code stands here. What the interface leaves to trust is trusted: that a struct and the
//! buffers it names are valid until it is released. Offsets inside the buffers are checked like any other input.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::Error;

type Release<T> = Option<unsafe extern "C" fn(*mut T)>;

// The structs as the interface lays them out.

#[repr(C)]
#[derive(Default)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut Self,
    dictionary: *mut Self,
    release: Release<Self>,
    private_data: *mut c_void,
}

#[repr(C)]
#[derive(Default)]
pub struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const u8,
    children: *mut *mut Self,
    dictionary: *mut Self,
    release: Release<Self>,
    private_data: *mut c_void,
}

#[repr(C)]
#[derive(Default)]
pub struct ArrowArrayStream {
    get_schema: Option<unsafe extern "C" fn(*mut Self, *mut ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut Self, *mut ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut Self) -> *const c_char>,
    release: Release<Self>,
    private_data: *mut c_void,
}

/// What the three structs have in common: the one who holds a struct calls its release, once.
pub trait Released: Default {
    fn release(&self) -> Release<Self>;
}

impl Released for ArrowSchema {
    fn release(&self) -> Release<Self> {
        self.release
    }
}

impl Released for ArrowArray {
    fn release(&self) -> Release<Self> {
        self.release
    }
}

impl Released for ArrowArrayStream {
    fn release(&self) -> Release<Self> {
        self.release
    }
}

/// A struct that is ours to release.
#[derive(Default)]
pub struct Owned<T: Released>(T);

impl<T: Released> Owned<T> {
    /// Moves the struct out of its producer's memory; None where another consumer was first.
    ///
    /// # Safety
    /// `place` is a valid struct of the interface that nobody else uses during the call.
    pub unsafe fn take(place: NonNull<T>) -> Option<Self> {
        // SAFETY: the caller's promise. The interface allows the move, and calls what stays behind, without a release
        // callback, a struct that was released.
        let moved = Self(unsafe { place.replace(T::default()) });
        moved.0.release().is_some().then_some(moved)
    }
}

impl<T: Released> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(release) = self.0.release() {
            // SAFETY: the struct is valid and was not released: `take` or a stream's callback gave it to us alone.
            unsafe { release(&raw mut self.0) }
        }
    }
}

// SAFETY: the interface binds a struct to no thread; its callbacks may be called from any, one at a time, which is
// what `Send` allows.
unsafe impl<T: Released> Send for Owned<T> {}

// SAFETY: a shared array is only read, and what it points to never changes before its release.
unsafe impl Sync for Owned<ArrowArray> {}

/// How an array's texts lie in its buffers.
#[derive(Clone, Copy)]
enum Layout {
    /// Offsets of so many bytes each.
    Offsets(usize),
    Views,
    /// Nothing but nulls.
    Null,
}

impl Layout {
    fn of(schema: &Owned<ArrowSchema>) -> Result<Self, Error> {
        let Some(format) = NonNull::new(schema.0.format.cast_mut()) else {
            return Err(Error::BadArrow { reason: "its schema has no format".to_owned() });
        };
        // SAFETY: the format is a string that ends with a zero and lives as long as the schema.
        let format = unsafe { CStr::from_ptr(format.as_ptr()) }.to_string_lossy();
        match format.as_ref() {
            "u" | "z" => Ok(Self::Offsets(4)),
            "U" | "Z" => Ok(Self::Offsets(8)),
            "vu" | "vz" => Ok(Self::Views),
            "n" => Ok(Self::Null),
            _ if !schema.0.dictionary.is_null() => Err(Error::TextType { name: "dictionary".to_owned() }),
            other => {
                let known = TYPE_NAMES.iter().find(|(code, _)| *code == other);
                Err(Error::TextType { name: known.map_or(other, |(_, name)| name).to_owned() })
            }
        }
    }
}

/// The types that are taken for texts by mistake, by their format.
const TYPE_NAMES: [(&str, &str); 15] = [
    ("b", "bool"),
    ("c", "int8"),
    ("C", "uint8"),
    ("s", "int16"),
    ("S", "uint16"),
    ("i", "int32"),
    ("I", "uint32"),
    ("l", "int64"),
    ("L", "uint64"),
    ("f", "float"),
    ("g", "double"),
    ("+l", "list"),
    ("+L", "large_list"),
    ("+s", "struct"),
    ("+m", "map"),
];

/// An array of strings or binaries without nulls.
pub struct Array {
    raw: Owned<ArrowArray>,
    layout: Layout,
    offset: usize,
    length: usize,
}

impl Array {
    fn new(raw: Owned<ArrowArray>, layout: Layout) -> Result<Self, Error> {
        let (Ok(offset), Ok(length)) = (usize::try_from(raw.0.offset), usize::try_from(raw.0.length)) else {
            return Err(Error::BadArrow { reason: "its length or offset is negative".to_owned() });
        };
        let array = Self { raw, layout, offset, length };
        match array.nulls()? {
            0 => Ok(array),
            nulls => Err(Error::Nulls { nulls }),
        }
    }

    fn nulls(&self) -> Result<usize, Error> {
        if matches!(self.layout, Layout::Null) {
            return Ok(self.length);
        }
        // A negative count is one that the producer has not made.
        if let Ok(count) = usize::try_from(self.raw.0.null_count) {
            return Ok(count);
        }
        if self.buffer_start(0)?.is_none() {
            return Ok(0);
        }
        let end = self.offset + self.length;
        let valid = self.buffer(0, end.div_ceil(8))?;
        Ok((self.offset..end).filter(|at| valid[at / 8] >> (at % 8) & 1 == 0).count())
    }

    fn buffer_start(&self, index: usize) -> Result<Option<NonNull<u8>>, Error> {
        let raw = &self.raw.0;
        if raw.buffers.is_null() || !usize::try_from(raw.n_buffers).is_ok_and(|count| index < count) {
            return Err(Error::BadArrow { reason: format!("it has no buffer {index}") });
        }
        // SAFETY: `buffers` points to `n_buffers` pointers, and `index` is below that.
        let start = unsafe { *raw.buffers.add(index) };
        Ok(NonNull::new(start.cast_mut()))
    }

    /// The first `len` bytes of a buffer, which its layout says it has.
    fn buffer(&self, index: usize, len: usize) -> Result<&[u8], Error> {
        match self.buffer_start(index)? {
            _ if len == 0 => Ok(&[]),
            // SAFETY: the interface guarantees the bytes that length, offset and layout imply, unchanged until the
            // release, and so for as long as `self` is borrowed. Bytes need no alignment.
            Some(start) => Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }),
            None => Err(Error::BadArrow { reason: format!("its buffer {index} is missing") }),
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Where the texts lie. The lengths of the buffers are those that the interface implies.
    pub fn buffers(&self) -> Result<Buffers<'_>, Error> {
        let end = self.offset + self.length;
        match self.layout {
            // The buffers of an empty array may be missing.
            _ if self.length == 0 => Ok(Buffers::Views { views: &[], data: Vec::new() }),
            Layout::Null => Err(Error::Nulls { nulls: self.length }),
            Layout::Offsets(width) => {
                let offsets = &self.buffer(1, (end + 1) * width)?[self.offset * width..];
                let last = number(offsets, self.length, width).ok_or(Error::BadOffsets { index: self.length - 1 })?;
                Ok(Buffers::Offsets { offsets, width, data: self.buffer(2, last)? })
            }
            Layout::Views => {
                let views = &self.buffer(1, end * 16)?[self.offset * 16..];
                // Beside the validity and the views, the last one holds the sizes of those between.
                let count = usize::try_from(self.raw.0.n_buffers).unwrap_or(0).saturating_sub(3);
                let sizes = self.buffer(count + 2, count * 8)?;
                let data = (0..count).map(|at| self.buffer(2 + at, number(sizes, at, 8).unwrap_or(0)));
                Ok(Buffers::Views { views, data: data.collect::<Result<_, _>>()? })
            }
        }
    }
}

/// The `index`-th of numbers of `width` bytes, unless negative.
pub fn number(numbers: &[u8], index: usize, width: usize) -> Option<usize> {
    let bytes = numbers.get(index * width..)?;
    match width {
        4 => usize::try_from(i32::from_ne_bytes(*bytes.first_chunk()?)).ok(),
        _ => usize::try_from(i64::from_ne_bytes(*bytes.first_chunk()?)).ok(),
    }
}

/// The buffers that hold an array's texts, from its own first row on.
pub enum Buffers<'a> {
    Offsets {
        offsets: &'a [u8],
        width: usize,
        data: &'a [u8],
    },
    /// A view holds 32-bit numbers: the length, then up to 12 bytes of text, or a prefix, a buffer and a place in it.
    Views {
        views: &'a [u8],
        data: Vec<&'a [u8]>,
    },
}

/// Where arrays come from: one, or a stream of them.
pub struct Arrays {
    layout: Layout,
    first: Option<Owned<ArrowArray>>,
    stream: Option<Owned<ArrowArrayStream>>,
}

impl Arrays {
    pub fn one(schema: &Owned<ArrowSchema>, array: Owned<ArrowArray>) -> Result<Self, Error> {
        Ok(Self { layout: Layout::of(schema)?, first: Some(array), stream: None })
    }

    pub fn many(mut stream: Owned<ArrowArrayStream>) -> Result<Self, Error> {
        let mut schema = Owned::default();
        let get_schema = stream.0.get_schema.ok_or_else(callback_missing)?;
        // SAFETY: the stream was not released, and `schema` has room for what the callback writes.
        let code = unsafe { get_schema(&raw mut stream.0, &raw mut schema.0) };
        checked(code, &mut stream)?;
        Ok(Self { layout: Layout::of(&schema)?, first: None, stream: Some(stream) })
    }

    /// What an object hands over by its `__arrow_c_stream__` or `__arrow_c_array__`.
    pub fn of(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        if source.hasattr("__arrow_c_stream__")? {
            return Ok(Self::many(taken(&source.call_method0("__arrow_c_stream__")?, c"arrow_array_stream")?)?);
        }
        let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
            source.call_method0("__arrow_c_array__")?.extract()?;
        Ok(Self::one(&taken(&schema, c"arrow_schema")?, taken(&array, c"arrow_array")?)?)
    }

    pub fn next_array(&mut self) -> Result<Option<Array>, Error> {
        if let Some(array) = self.first.take() {
            return Array::new(array, self.layout).map(Some);
        }
        // Put back unless it ended or failed: a stream lives no longer than it is wanted.
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let mut array = Owned::default();
        let get_next = stream.0.get_next.ok_or_else(callback_missing)?;
        // SAFETY: the stream was not released, and `array` has room for what the callback writes.
        let code = unsafe { get_next(&raw mut stream.0, &raw mut array.0) };
        checked(code, &mut stream)?;
        // A released array marks the end.
        if array.0.release.is_none() {
            return Ok(None);
        }
        self.stream = Some(stream);
        Array::new(array, self.layout).map(Some)
    }
}

/// The struct in a capsule.
fn taken<T: Released>(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<Owned<T>> {
    let place = capsule.cast::<PyCapsule>()?.pointer_checked(Some(name))?.cast();
    // SAFETY: the protocol says that a capsule of this name holds this struct, and the interpreter is held meanwhile.
    let owned = unsafe { Owned::take(place) };
    owned.ok_or_else(|| Error::BadArrow { reason: format!("its {name:?} was consumed before") }.into())
}

fn callback_missing() -> Error {
    Error::BadArrow { reason: "its stream lacks a callback".to_owned() }
}

/// The stream's own words for an error code other than 0.
fn checked(code: c_int, stream: &mut Owned<ArrowArrayStream>) -> Result<(), Error> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the stream was not released and its last call failed, which is when this may be called.
    let message = stream.0.get_last_error.and_then(|last| NonNull::new(unsafe { last(&raw mut stream.0) }.cast_mut()));
    // SAFETY: the message ends with a zero and is valid until the next call, before which it is copied.
    let message = message.map(|message| unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned());
    Err(Error::BadArrow { reason: message.unwrap_or_else(|| format!("its stream failed with the code {code}")) })
}
