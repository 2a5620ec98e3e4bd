//! Pre-tokens as keys of hash tables: short ones as one number, so that a comparison is one instruction or two.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// The most bytes that fit into a short key beside their number.
pub const SHORT: usize = 15;

/// The `N` bytes at `start`, if there are so many.
#[inline(always)]
fn wide_at<const N: usize>(text: &[u8], start: usize) -> Option<&[u8; N]> {
    // No text is longer. That the sum cannot overflow saves a comparison.
    let start = start & (usize::MAX >> 1);
    text.get(start..start + N).and_then(|wide| wide.first_chunk())
}

/// What [`short_key`] gives for longer words; the key of none.
pub const NOT_SHORT: u128 = (SHORT as u128 + 1) << 120;

/// The bytes `text[start..end]` with their number in the highest byte, or [`NOT_SHORT`]. Never 0 for a word that is not
/// empty.
#[inline(always)]
pub fn short_key(text: &[u8], start: usize, end: usize) -> u128 {
    let len = (end - start).min(SHORT + 1);
    let word = match wide_at(text, start) {
        Some(wide) => u128::from_le_bytes(*wide),
        None => {
            let mut padded = [0; 16];
            padded[..len].copy_from_slice(&text[start..start + len]);
            u128::from_le_bytes(padded)
        }
    };
    word & BELOW[len] | u128::from((len as u64) << 56) << 64
}

/// Masks of the lowest bytes; a shift of 128 bits by a variable takes several times as long.
static BELOW: [u128; SHORT + 2] = {
    let mut masks = [0; SHORT + 2];
    let mut bytes = 1;
    while bytes <= SHORT {
        masks[bytes] = u128::MAX >> (128 - 8 * bytes);
        bytes += 1;
    }
    masks
};

/// The bytes of a short key.
pub fn short_bytes(key: u128) -> ([u8; 16], usize) {
    let mut bytes = key.to_le_bytes();
    let len = usize::from(std::mem::take(&mut bytes[SHORT]));
    (bytes, len)
}

/// A hash of a short key; its highest bits are its best.
#[inline(always)]
pub fn hash_short(key: u128) -> u64 {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let product = u128::from(low ^ 0x9E37_79B9_7F4A_7C15) * u128::from(high ^ 0xD6E8_FEB8_6659_FD93);
    (product as u64) ^ (product >> 64) as u64
}

/// A word as the key of a table.
pub(crate) trait Key: Copy + Default + PartialEq {
    /// The highest bits are the best.
    fn hash(self) -> u64;
}

impl Key for u64 {
    #[inline(always)]
    fn hash(self) -> u64 {
        hash_tiny(self)
    }
}

impl Key for u128 {
    #[inline(always)]
    fn hash(self) -> u64 {
        hash_short(self)
    }
}

/// The most bytes that fit into a tiny key beside their number.
pub const TINY: usize = 7;

/// What [`tiny_key`] gives for longer words; the key of none.
pub const NOT_TINY: u64 = u64::MAX;

/// The bytes `text[start..end]` with their number in the highest byte, or [`NOT_TINY`].
#[inline(always)]
pub fn tiny_key(text: &[u8], start: usize, end: usize) -> u64 {
    let len = (end - start).min(TINY + 1);
    let word = match wide_at(text, start) {
        Some(wide) => u64::from_le_bytes(*wide),
        None => {
            let mut padded = [0; 8];
            padded[..len].copy_from_slice(&text[start..start + len]);
            u64::from_le_bytes(padded)
        }
    };
    let (below, number) = TINY_MASKS[len];
    word & below | number
}

/// For each number of bytes a mask of them, and the number in its place.
static TINY_MASKS: [(u64, u64); TINY + 2] = {
    let mut masks = [(0, NOT_TINY); TINY + 2];
    let mut bytes = 0;
    while bytes <= TINY {
        masks[bytes] = ((1 << (8 * bytes)) - 1, (bytes as u64) << 56);
        bytes += 1;
    }
    masks
};

/// A hash of a tiny key; its highest bits are its best.
#[inline(always)]
pub fn hash_tiny(key: u64) -> u64 {
    (key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A hash of any bytes.
#[inline(always)]
pub fn hash_long(word: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(word);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_the_bytes_wherever_the_text_ends() {
        let text: Vec<u8> = (0..40).collect();
        for start in 0..40 {
            for end in start..40.min(start + SHORT) {
                let (bytes, len) = short_bytes(short_key(&text, start, end));
                assert_eq!(&bytes[..len], &text[start..end]);
                assert_eq!(short_key(&text, start, end), short_key(&text[..end], start, end));
            }
        }
    }

    #[test]
    fn zeros_at_the_end_count() {
        assert_ne!(short_key(b"a", 0, 1), short_key(b"a\0", 0, 2));
    }
}
