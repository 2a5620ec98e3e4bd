//! Numbers as a few levels per block: evenly spaced up to the block's largest magnitude, or means of its quantile bins.
//!
//! All sums run in the order of the values and no product is fused with a sum, so that every machine finds the same.

use crate::rng::Stream;

/// Values that are rounded at a time, for which the codes and the noise fit on the stack.
const STRETCH: usize = 256;
const INFINITE: u32 = 0x7F80_0000;
const NAN: f32 = f32::from_bits(0x7FC0_0000); // the standard library leaves the bits of its own open

/// Bytes that `count` codes of `bits` bits take.
pub const fn packed(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Distance between the lowest and the highest level, in levels. With an even number 0 is a level, except at 2 bits,
/// where the levels ±1/3 and ±1 are worth more than 0 and ±1.
const fn steps(bits: u32) -> u32 {
    if bits == 2 { 3 } else { (1 << bits) - 2 }
}

/// The largest magnitude, as bits: those of NaN are above those of infinity, and these above all others.
fn largest(values: &[f32]) -> u32 {
    values.iter().fold(0, |most, value| most.max((value.to_bits() & 0x7FFF_FFFF) as i32)) as u32
}

/// The nearest whole number, ties to even, of a number from 0 to 255: the sum has no room for a fraction.
fn nearest(number: f32) -> u8 {
    (number + 12_582_912.0).to_bits() as u8
}

/// One of the two whole numbers around a `number` from 0 to 255, the upper one with a probability of its distance from
/// the lower one. `noise` is uniform in [0, 1).
fn either(number: f32, noise: f32) -> u8 {
    let lower = (number - 0.5 + 12_582_912.0) - 12_582_912.0; // a whole number may come out as its predecessor
    let upper = u8::from(noise < number - lower); // in which case the difference is 1, and this always holds
    nearest(lower) + upper
}

/// Writes the scale, a float32, of each block of `values` to `scales`, and the codes to `codes`.
///
/// A block that is not finite gets the scale NaN. With `noise`, values are rounded to one of the two levels around them
/// at random, so that the mean is the value; otherwise to the nearest level.
pub fn encode_absmax(
    values: &[f32],
    bits: u32,
    block: usize,
    noise: Option<Stream>,
    scales: &mut [u8],
    codes: &mut [u8],
) {
    let half = steps(bits) as f32 / 2.0;
    let (mut buffer, mut random) = ([0; STRETCH], [0.0; STRETCH]);
    let blocks = values.chunks(block).zip(scales.as_chunks_mut().0).zip(codes.chunks_mut(packed(block, bits)));
    for (number, ((values, scale), codes)) in blocks.enumerate() {
        let most = largest(values);
        if most >= INFINITE {
            *scale = NAN.to_le_bytes();
            codes.fill(0);
            continue;
        }
        *scale = most.to_le_bytes();
        let divisor = if most == 0 { 1.0 } else { f32::from_bits(most) };
        let stretches = values.chunks(STRETCH).zip(codes.chunks_mut(packed(STRETCH, bits)));
        for (at, (values, codes)) in stretches.enumerate() {
            let buffer = &mut buffer[..values.len()];
            if let Some(stream) = noise {
                stream.fill(number * block + at * STRETCH, &mut random[..values.len()]);
                for ((code, value), noise) in buffer.iter_mut().zip(values).zip(&random) {
                    *code = either(value / divisor * half + half, *noise);
                }
            } else {
                for (code, value) in buffer.iter_mut().zip(values) {
                    *code = nearest(value / divisor * half + half);
                }
            }
            pack(buffer, bits, codes);
        }
    }
}

/// The inverse of `encode_absmax`.
pub fn decode_absmax(scales: &[u8], codes: &[u8], bits: u32, block: usize, out: &mut [f32]) {
    let steps = steps(bits) as i32;
    let level = |code: u8| (2 * i32::from(code) - steps) as f32 / steps as f32;
    let blocks = out.chunks_mut(block).zip(scales.as_chunks().0).zip(codes.chunks(packed(block, bits)));
    let mut buffer = [0; STRETCH];
    for ((out, scale), codes) in blocks {
        let scale = f32::from_le_bytes(*scale);
        for (out, codes) in out.chunks_mut(STRETCH).zip(codes.chunks(packed(STRETCH, bits))) {
            let buffer = &mut buffer[..out.len()];
            unpack(codes, bits, buffer);
            for (value, code) in out.iter_mut().zip(buffer.iter()) {
                *value = scale * level(*code);
            }
        }
    }
}

/// Writes the 2^bits levels, ascending float32, of each block of `values` to `levels`, and the codes to `codes`.
///
/// A level is the mean of one of as many bins, which hold equally many values where no values are equal. Each value is
/// rounded to the nearest level. A block that is not finite gets levels that are NaN.
pub fn encode_quantile(values: &[f32], bits: u32, block: usize, levels: &mut [u8], codes: &mut [u8]) {
    let (mut sorter, mut buffer) = (Sorter::default(), [0; STRETCH]);
    let place = match bits {
        2 => place::<2>,
        4 => place::<4>,
        _ => place::<8>,
    };
    let blocks = values.chunks(block).zip(levels.chunks_mut(4 << bits)).zip(codes.chunks_mut(packed(block, bits)));
    for ((values, levels), codes) in blocks {
        let found = if largest(values) < INFINITE { means(values, bits, &mut sorter) } else { [NAN; 256] };
        for (bytes, level) in levels.as_chunks_mut().0.iter_mut().zip(found) {
            *bytes = level.to_le_bytes();
        }
        let mut between = [0.0; 256];
        for (middle, pair) in between.iter_mut().zip(found[..1 << bits].windows(2)) {
            *middle = 0.5 * pair[0] + 0.5 * pair[1];
        }
        for (values, codes) in values.chunks(STRETCH).zip(codes.chunks_mut(packed(STRETCH, bits))) {
            let buffer = &mut buffer[..values.len()];
            place(values, &between, buffer);
            pack(buffer, bits, codes);
        }
    }
}

/// The inverse of `encode_quantile`.
pub fn decode_quantile(levels: &[u8], codes: &[u8], bits: u32, block: usize, out: &mut [f32]) {
    let blocks = out.chunks_mut(block).zip(levels.chunks(4 << bits)).zip(codes.chunks(packed(block, bits)));
    let mut buffer = [0; STRETCH];
    for ((out, bytes), codes) in blocks {
        let mut levels = [0.0; 256];
        for (level, bytes) in levels.iter_mut().zip(bytes.as_chunks().0) {
            *level = f32::from_le_bytes(*bytes);
        }
        for (out, codes) in out.chunks_mut(STRETCH).zip(codes.chunks(packed(STRETCH, bits))) {
            let buffer = &mut buffer[..out.len()];
            unpack(codes, bits, buffer);
            for (value, code) in out.iter_mut().zip(buffer.iter()) {
                *value = levels[usize::from(*code)];
            }
        }
    }
}

/// The means of the 2^bits quantile bins of finite `values`, ascending. An empty bin has the value at its bound.
fn means(values: &[f32], bits: u32, sorter: &mut Sorter) -> [f32; 256] {
    let sorted = sorter.sorted(values);
    let bins = 1 << bits;
    let mut found = [0.0; 256];
    for (bin, mean) in found[..bins].iter_mut().enumerate() {
        let (begin, end) = (bin * sorted.len() / bins, (bin + 1) * sorted.len() / bins);
        let bin = &sorted[begin..end.max(begin + 1)];
        *mean = (sum(bin) / bin.len() as f64) as f32;
    }
    found
}

/// The sum of keys, in an order that depends on their number alone: four sums side by side, which are added last.
fn sum(keys: &[u32]) -> f64 {
    let value = |key: u32| f64::from(f32::from_bits(unordered(key)));
    let (fours, rest) = keys.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        for (sum, key) in sums.iter_mut().zip(four) {
            *sum += value(*key);
        }
    }
    let [a, b, c, d] = sums;
    rest.iter().fold((a + b) + (c + d), |sum, key| sum + value(*key))
}

/// Sorts floats by their bits; keeps its memory.
#[derive(Default)]
struct Sorter {
    keys: Vec<u32>,
    spare: Vec<u32>,
}

impl Sorter {
    const FEW: usize = 512; // for which counting takes longer
    const DIGIT: u32 = 8; // bits; four digits make up a key

    /// The keys of `values`, see `ordered`, ascending.
    fn sorted(&mut self, values: &[f32]) -> &[u32] {
        let Self { keys, spare } = self;
        keys.clear();
        keys.extend(values.iter().map(|value| ordered(value.to_bits())));
        if keys.len() < Self::FEW {
            keys.sort_unstable();
            return keys;
        }
        spare.resize(keys.len(), 0);
        let digit = |key: u32, place: usize| (key >> (Self::DIGIT * place as u32)) as usize % (1 << Self::DIGIT);
        let mut counts = [[0u32; 1 << Self::DIGIT]; 4];
        for key in keys.iter() {
            for (place, counts) in counts.iter_mut().enumerate() {
                counts[digit(*key, place)] += 1;
            }
        }
        for (place, counts) in counts.iter_mut().enumerate() {
            let mut below = 0;
            for count in counts.iter_mut() {
                below += std::mem::replace(count, below);
            }
            for key in keys.iter() {
                let at = &mut counts[digit(*key, place)];
                spare[*at as usize] = *key;
                *at += 1;
            }
            std::mem::swap(keys, spare);
        }
        keys
    }
}

/// Unsigned numbers in the order of the floats with these bits.
fn ordered(bits: u32) -> u32 {
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

fn unordered(key: u32) -> u32 {
    key ^ if key >> 31 == 1 { 1 << 31 } else { u32::MAX }
}

/// For each value, how many of the first 2^BITS - 1 bounds, ascending, are not above it.
fn place<const BITS: u32>(values: &[f32], bounds: &[f32; 256], codes: &mut [u8]) {
    if BITS == 2 {
        for (code, value) in codes.iter_mut().zip(values) {
            *code = u8::from(*value >= bounds[0]) + u8::from(*value >= bounds[1]) + u8::from(*value >= bounds[2]);
        }
        return;
    }
    for (code, value) in codes.iter_mut().zip(values) {
        let mut at = 0;
        for bit in (0..BITS).rev() {
            at += usize::from(*value >= bounds[at + (1 << bit) - 1]) << bit;
        }
        *code = at as u8;
    }
}

/// Packs codes of 2, 4 or 8 bits, the first ones into the low bits of a byte.
fn pack(codes: &[u8], bits: u32, out: &mut [u8]) {
    match bits {
        2 => {
            let (whole, rest) = codes.as_chunks();
            for (byte, [a, b, c, d]) in out.iter_mut().zip(whole) {
                *byte = a | b << 2 | c << 4 | d << 6;
            }
            if let Some(last) = out.get_mut(whole.len()) {
                *last = rest.iter().rev().fold(0, |byte, code| byte << 2 | code);
            }
        }
        4 => {
            let (whole, rest) = codes.as_chunks();
            for (byte, [a, b]) in out.iter_mut().zip(whole) {
                *byte = a | b << 4;
            }
            if let Some(last) = out.get_mut(whole.len()) {
                *last = rest.first().copied().unwrap_or_default();
            }
        }
        _ => out[..codes.len()].copy_from_slice(codes),
    }
}

/// The inverse of `pack`.
fn unpack(data: &[u8], bits: u32, codes: &mut [u8]) {
    match bits {
        2 => {
            let (whole, rest) = codes.as_chunks_mut();
            for ([a, b, c, d], byte) in whole.iter_mut().zip(data) {
                (*a, *b, *c, *d) = (byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6);
            }
            for (i, code) in rest.iter_mut().enumerate() {
                *code = data[whole.len()] >> (2 * i) & 3;
            }
        }
        4 => {
            let (whole, rest) = codes.as_chunks_mut();
            for ([a, b], byte) in whole.iter_mut().zip(data) {
                (*a, *b) = (byte & 15, byte >> 4);
            }
            if let [code] = rest {
                *code = data[whole.len()] & 15;
            }
        }
        _ => codes.copy_from_slice(&data[..codes.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, with the scales or levels that they were coded with.
    fn absmax(values: &[f32], bits: u32, block: usize, noise: Option<Stream>) -> (Vec<f32>, Vec<u8>) {
        let mut scales = vec![0; 4 * values.len().div_ceil(block)];
        let mut codes = vec![0xFF; packed(values.len(), bits)];
        encode_absmax(values, bits, block, noise, &mut scales, &mut codes);
        let mut out = vec![f32::NAN; values.len()];
        decode_absmax(&scales, &codes, bits, block, &mut out);
        (out, codes)
    }

    fn quantile(values: &[f32], bits: u32, block: usize) -> Vec<f32> {
        let mut levels = vec![0; (4 << bits) * values.len().div_ceil(block)];
        let mut codes = vec![0xFF; packed(values.len(), bits)];
        encode_quantile(values, bits, block, &mut levels, &mut codes);
        let mut out = vec![f32::NAN; values.len()];
        decode_quantile(&levels, &codes, bits, block, &mut out);
        out
    }

    fn drawn(count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Stream::new(1, 0).fill(0, &mut values);
        values.iter_mut().for_each(|value| *value = (*value - 0.5).powi(3));
        values
    }

    #[test]
    fn levels_are_those_computed_by_hand() {
        let values = [3.0, -3.0, 0.9, 1.1, -0.1, -1.4, 0.0];
        assert_eq!(absmax(&values, 2, 16, None).0, [3.0, -3.0, 1.0, 1.0, -1.0, -1.0, 1.0]);
        // Codes 3, 0, 2, 2 and 1, 1, 2.
        assert_eq!(absmax(&values, 2, 16, None).1, [0b1010_0011, 0b10_0101]);
        assert_eq!(absmax(&[7.0, -7.0, 2.4, -2.6, 0.4], 4, 16, None).0, [7.0, -7.0, 2.0, -3.0, 0.0]);
        assert_eq!(absmax(&[127.0, -127.0, 99.6, 0.4], 8, 16, None).0, [127.0, -127.0, 100.0, 0.0]);
        let eight = [1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0];
        assert_eq!(quantile(&eight, 2, 16), [1.5, 7.5, 1.5, 7.5, 3.5, 5.5, 3.5, 5.5]);
    }

    #[test]
    fn every_length_and_block_keeps_the_bound() {
        for bits in [2, 4, 8] {
            for count in [0, 1, 2, 3, 5, 16, 17, 255, 257, 1000, 1027] {
                for block in [16, 64, 512] {
                    let values = drawn(count);
                    let (out, _) = absmax(&values, bits, block, None);
                    for (values, out) in values.chunks(block).zip(out.chunks(block)) {
                        let bound = f32::from_bits(largest(values)) / steps(bits) as f32 * 1.0001;
                        assert!(values.iter().zip(out).all(|(x, y)| (x - y).abs() <= bound));
                    }
                }
            }
        }
    }

    #[test]
    fn quantile_levels_are_the_means_of_sorted_bins() {
        for bits in [2, 4, 8] {
            for count in [256, 512, 1024, 4096] {
                let values = drawn(count);
                let mut sorted = values.clone();
                sorted.sort_by(f32::total_cmp);
                let per = count >> bits;
                let expected: Vec<f32> = sorted
                    .chunks(per)
                    .map(|bin| (bin.iter().map(|x| f64::from(*x)).sum::<f64>() / per as f64) as f32)
                    .collect();
                let found = means(&values, bits, &mut Sorter::default());
                assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()));
            }
        }
    }

    #[test]
    fn few_and_equal_values_are_exact_with_quantile_levels() {
        for bits in [2, 4, 8] {
            assert!(quantile(&[], bits, 16).is_empty());
            for values in [vec![-2.5], vec![1.0, -3.0], vec![5.0, 5.0, 5.0, -1.0], vec![0.0; 100], vec![1e-45, -1e-45]]
            {
                assert_eq!(quantile(&values, bits, 4096), values);
            }
        }
        let fifty: Vec<f32> = (0..50).map(|x| x as f32).collect();
        assert_eq!(quantile(&fifty, 8, 4096), fifty);
    }

    #[test]
    fn extremes_stay_finite_and_what_is_not_finite_stays_so() {
        let huge = [f32::MAX, -f32::MAX, f32::MAX / 3.0, 1e-45, 0.0];
        for bits in [2, 4, 8] {
            for values in [&huge[..], &[1e-45, -1e-45, 0.0], &[-0.0, 0.0], &[f32::MIN_POSITIVE, 1e-40]] {
                assert!(absmax(values, bits, 16, None).0.iter().all(|x| x.is_finite()));
                assert!(absmax(values, bits, 16, Some(Stream::new(0, 0))).0.iter().all(|x| x.is_finite()));
                assert!(quantile(values, bits, 16).iter().all(|x| x.is_finite()));
            }
            assert_eq!(absmax(&huge, bits, 16, None).0[..2], huge[..2]);
            assert_eq!(absmax(&[0.0; 20], bits, 16, None).0, [0.0; 20]);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
                assert!(absmax(&[1.0, bad, 2.0], bits, 16, None).0.iter().all(|x| x.is_nan()));
                assert!(quantile(&[1.0, bad, 2.0], bits, 16).iter().all(|x| x.is_nan()));
            }
        }
    }

    #[test]
    fn noise_rounds_to_a_neighbour_and_not_at_all_where_a_level_is() {
        for number in 0..=254u8 {
            let exact = f32::from(number);
            assert!([0.0, 0.5, 0.999_999_94].iter().all(|noise| either(exact, *noise) == number));
            assert_eq!((either(exact + 0.25, 0.2), either(exact + 0.25, 0.3)), (number + 1, number));
        }
        let values = drawn(1 << 16);
        let mean = |values: &[f32]| values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64;
        for bits in [2, 4, 8] {
            let (out, _) = absmax(&values, bits, 64, Some(Stream::new(5, 0)));
            assert!((mean(&values) - mean(&out)).abs() < 1e-3 * 0.125);
            assert_ne!(out, absmax(&values, bits, 64, Some(Stream::new(6, 0))).0);
        }
    }
}
