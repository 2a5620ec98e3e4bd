//! The texts of Arrow arrays, in batches.

use std::ops::Range;
use std::sync::Arc;

use crate::arrow::{Array, Arrays, Buffers, number};
use crate::error::Error;

/// The texts of all arrays in batches of about `bytes`, at most `texts` of them in one.
pub struct Batches {
    arrays: Arrays,
    bytes: usize,
    texts: usize,
    current: Option<(Arc<Array>, usize)>,
}

impl Batches {
    pub fn new(arrays: Arrays, bytes: usize, texts: usize) -> Self {
        Self { arrays, bytes, texts: texts.max(1), current: None }
    }

    /// The next texts, at least one; None after the last.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let (array, start) = loop {
            match self.current.take() {
                Some((array, row)) if row < array.len() => break (array, row),
                _ => match self.arrays.next_array()? {
                    Some(array) => self.current = Some((Arc::new(array), 0)),
                    None => return Ok(None),
                },
            }
        };
        let buffers = array.buffers()?;
        let (mut end, mut bytes) = (start, 0);
        while end < array.len().min(start + self.texts) && (end == start || bytes < self.bytes) {
            bytes += text(&buffers, end)?.len();
            end += 1;
        }
        drop(buffers);
        self.current = Some((array.clone(), end));
        Ok(Some(Batch { array, rows: start..end, bytes }))
    }
}

/// Neighbouring rows of an array, which lives as long as they do.
#[derive(Clone)]
pub struct Batch {
    array: Arc<Array>,
    rows: Range<usize>,
    /// Bytes of all its texts.
    pub bytes: usize,
}

impl Batch {
    pub fn texts(&self) -> Result<Vec<&[u8]>, Error> {
        let buffers = self.array.buffers()?;
        self.rows.clone().map(|row| text(&buffers, row)).collect()
    }
}

/// The text of a row.
fn text<'a>(buffers: &Buffers<'a>, row: usize) -> Result<&'a [u8], Error> {
    let text = match buffers {
        Buffers::Offsets { offsets, width, data } => {
            let ends = number(offsets, row, *width).zip(number(offsets, row + 1, *width));
            ends.and_then(|(start, end)| data.get(start..end))
        }
        Buffers::Views { views, data } => views.get(16 * row..16 * row + 16).and_then(|view| {
            let len = number(view, 0, 4)?;
            if len <= 12 {
                return view.get(4..4 + len);
            }
            let (buffer, start) = (number(view, 2, 4)?, number(view, 3, 4)?);
            data.get(buffer)?.get(start..start + len)
        }),
    };
    text.ok_or(Error::BadOffsets { index: row })
}
