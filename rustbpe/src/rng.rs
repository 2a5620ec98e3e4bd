//! SplitMix64 (Steele, Lea and Flood 2014) read by position: the n-th number follows from the seed and n alone.

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Number `n` of the generator that starts at `seed`.
fn number(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(GAMMA.wrapping_mul(n.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One of the streams of a seed, without end.
#[derive(Clone, Copy, Debug)]
pub struct Stream(u64);

impl Stream {
    /// A stream starts at the number of the seed's own generator that has its index.
    pub fn new(seed: u64, index: u64) -> Self {
        Self(number(seed, index))
    }

    /// The numbers from the even position `first` on, as multiples of 2⁻²⁴ in [0, 1). Two make up one number of 64 bits.
    pub fn fill(self, first: usize, out: &mut [f32]) {
        debug_assert!(first.is_multiple_of(2));
        for (i, pair) in out.chunks_mut(2).enumerate() {
            let z = number(self.0, (first / 2 + i) as u64);
            let both = [unit((z >> 40) as u32), unit((z >> 8) as u32 & 0xFF_FFFF)];
            pair.copy_from_slice(&both[..pair.len()]);
        }
    }
}

fn unit(bits: u32) -> f32 {
    bits as f32 * (1.0 / (1 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_published_numbers() {
        assert_eq!(number(0, 0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(
            [number(1_234_567, 0), number(1_234_567, 1)],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn a_stream_can_be_read_from_any_even_position() {
        let stream = Stream::new(7, 3);
        let (mut whole, mut rest) = ([0.0; 101], [0.0; 41]);
        stream.fill(0, &mut whole);
        stream.fill(60, &mut rest);
        assert_eq!(whole[60..], rest);
        assert!(whole.iter().all(|x| (0.0..1.0).contains(x)));
        Stream::new(7, 4).fill(0, &mut rest);
        assert_ne!(whole[..41], rest);
    }
}
