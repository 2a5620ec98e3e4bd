//! The numbers of largest magnitude of each chunk of a tensor, with their places.

use crate::error::Error;

/// How many of a chunk of `len` numbers are kept if `k` of `chunk` are: the same share, rounded up.
pub const fn kept(len: usize, chunk: usize, k: usize) -> usize {
    (len * k).div_ceil(chunk)
}

/// How many of `len` numbers in chunks are kept.
pub const fn kept_of_all(len: usize, chunk: usize, k: usize) -> usize {
    len / chunk * k + kept(len % chunk, chunk, k)
}

/// Bytes that `count` indices into a chunk take.
pub const fn packed(count: usize, chunk: usize) -> usize {
    (count * chunk.ilog2() as usize).div_ceil(8)
}

/// Writes the places of the largest numbers of each chunk to `indices`, and the numbers to `chosen`, both in the order
/// of `values`. Of equal magnitudes the first ones count as larger, and what is not finite as larger than all numbers.
///
/// `chunk` is a power of two. Indices have as many bits as chunk - 1, the first ones in the low bits of a byte.
pub fn encode(values: &[f32], chunk: usize, k: usize, indices: &mut [u8], chosen: &mut [f32]) {
    let mut writer = Writer { bits: chunk.ilog2(), held: 0, holds: 0, out: indices.iter_mut() };
    let mut chosen = chosen.iter_mut();
    let mut magnitudes: Vec<u32> = Vec::with_capacity(chunk.min(values.len()));
    for values in values.chunks(chunk) {
        let count = kept(values.len(), chunk, k);
        magnitudes.clear();
        magnitudes.extend(values.iter().map(|value| magnitude(*value)));
        let (_, threshold, above) = magnitudes.select_nth_unstable(values.len() - count);
        let threshold = *threshold;
        let above = above.iter().filter(|other| **other > threshold).count();
        let mut equal = count - above; // of those at the threshold, so many are kept
        for (index, value) in values.iter().enumerate() {
            let size = magnitude(*value);
            if size < threshold || (size == threshold && equal == 0) {
                continue;
            }
            equal -= usize::from(size == threshold);
            writer.write(index);
            if let Some(place) = chosen.next() {
                *place = *value;
            }
        }
    }
    writer.finish();
}

fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7FFF_FFFF
}

/// Writes zeros to `out`, and the numbers `chosen` to their places in it. The first of them has index number `first`.
///
/// `out` begins with a chunk. `Error::BadIndex` if the indices of a chunk do not ascend or leave it.
pub fn decode(
    indices: &[u8],
    first: usize,
    chosen: &[f32],
    chunk: usize,
    k: usize,
    out: &mut [f32],
) -> Result<(), Error> {
    let bits = chunk.ilog2() as usize;
    let mut position = first * bits;
    let mut chosen = chosen.iter();
    out.fill(0.0);
    for out in out.chunks_mut(chunk) {
        let mut least = 0;
        for value in chosen.by_ref().take(kept(out.len(), chunk, k)) {
            let index = read(indices, position, bits);
            position += bits;
            if index < least || index >= out.len() {
                return Err(Error::BadIndex { index, least, numbers: out.len() });
            }
            out[index] = *value;
            least = index + 1;
        }
    }
    Ok(())
}

/// The number of `bits` bits, at most 16, at a position counted in bits.
fn read(data: &[u8], position: usize, bits: usize) -> usize {
    let byte = |i: usize| data.get(position / 8 + i).map_or(0, |byte| usize::from(*byte) << (8 * i));
    (byte(0) | byte(1) | byte(2)) >> (position % 8) & ((1 << bits) - 1)
}

struct Writer<'a> {
    bits: u32,
    held: u64,
    holds: u32,
    out: std::slice::IterMut<'a, u8>,
}

impl Writer<'_> {
    fn write(&mut self, number: usize) {
        self.held |= (number as u64) << self.holds;
        self.holds += self.bits;
        while self.holds >= 8 {
            self.flush();
            self.holds -= 8;
        }
    }

    fn finish(&mut self) {
        if self.holds > 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(byte) = self.out.next() {
            *byte = self.held as u8;
        }
        self.held >>= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn encoded(values: &[f32], chunk: usize, k: usize) -> (Vec<u8>, Vec<f32>) {
        let count = kept_of_all(values.len(), chunk, k);
        let (mut indices, mut chosen) = (vec![0xFF; packed(count, chunk)], vec![f32::NAN; count]);
        encode(values, chunk, k, &mut indices, &mut chosen);
        (indices, chosen)
    }

    #[test]
    fn the_largest_are_kept_and_the_first_of_equal_ones() {
        let values = [1.0, -4.0, 2.0, 2.0, -2.0, 0.0, 3.0, 0.5, 7.0, 6.0, -8.0];
        let (indices, chosen) = encoded(&values, 8, 4);
        assert_eq!(chosen, [-4.0, 2.0, 2.0, 3.0, 7.0, -8.0]);
        // 1, 2, 3, 6 and 0, 2 with three bits each, low bits first.
        assert_eq!(indices, [0b1101_0001, 0b0000_1100, 0b01]);
        let mut out = [f32::NAN; 11];
        assert_eq!(decode(&indices, 0, &chosen, 8, 4, &mut out), Ok(()));
        assert_eq!(out, [0.0, -4.0, 2.0, 2.0, 0.0, 0.0, 3.0, 0.0, 7.0, 0.0, -8.0]);
        let mut last = [f32::NAN; 3];
        assert_eq!(decode(&indices, 4, &chosen[4..], 8, 4, &mut last), Ok(()));
        assert_eq!(last, out[8..]);
    }

    #[test]
    fn it_agrees_with_a_sort() {
        for count in [0, 1, 5, 63, 64, 65, 200, 1000] {
            for (chunk, k) in [(16, 1), (16, 16), (64, 7), (1024, 33)] {
                let mut values = vec![0.0; count];
                Stream::new(2, 0).fill(0, &mut values);
                values.iter_mut().for_each(|value| *value = (*value * 20.0).floor() - 10.0);
                let (indices, chosen) = encoded(&values, chunk, k);
                let mut out = vec![f32::NAN; count];
                assert_eq!(decode(&indices, 0, &chosen, chunk, k, &mut out), Ok(()));
                for (values, out) in values.chunks(chunk).zip(out.chunks(chunk)) {
                    let mut order: Vec<usize> = (0..values.len()).collect();
                    order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
                    let mut expected = vec![0.0; values.len()];
                    order[..kept(values.len(), chunk, k)].iter().for_each(|i| expected[*i] = values[*i]);
                    assert_eq!(out, expected);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_kept() {
        let (_, chosen) = encoded(&[1.0, f32::INFINITY, f32::NAN, 9.0], 4, 2);
        assert!(chosen[0].is_infinite() && chosen[1].is_nan());
    }

    #[test]
    fn indices_that_repeat_or_leave_the_chunk_are_refused() {
        let mut out = [0.0; 16];
        let bad = |index, least, numbers| Err(Error::BadIndex { index, least, numbers });
        assert_eq!(decode(&[0x33], 0, &[1.0, 2.0], 16, 2, &mut out), bad(3, 4, 16));
        assert_eq!(decode(&[0x13], 0, &[1.0, 2.0], 16, 2, &mut out), bad(1, 4, 16));
        assert_eq!(decode(&[0x31], 0, &[1.0, 2.0], 16, 2, &mut out), Ok(()));
        assert_eq!(decode(&[0x05], 0, &[1.0], 16, 2, &mut out[..5]), bad(5, 0, 5));
    }
}
