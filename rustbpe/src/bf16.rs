//! float32 as the upper 16 of its bits, rounded to the nearest, ties to even.

/// Writes two bytes for each value. A finite value stays finite: beyond the largest bfloat16 it becomes that.
pub fn encode(values: &[f32], out: &mut [u8]) {
    for (value, bytes) in values.iter().zip(out.as_chunks_mut().0) {
        *bytes = rounded(value.to_bits()).to_le_bytes();
    }
}

fn rounded(bits: u32) -> u16 {
    const INFINITE: u32 = 0x7F80;
    let infinite_or_nan = bits & 0x7FFF_FFFF >= INFINITE << 16;
    // Half a unit of the last place that stays, less one if that place is even; it may carry into the exponent.
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    let finite = nearest - u32::from(nearest & 0x7FFF == INFINITE);
    // What is set below the upper bits of a NaN would be lost, and it would become an infinity.
    let nan = u32::from(bits & 0x7FFF_FFFF > INFINITE << 16) << 6;
    (if infinite_or_nan { bits >> 16 | nan } else { finite }) as u16
}

/// The inverse: one value for every two bytes.
pub fn decode(data: &[u8], out: &mut [f32]) {
    for (bytes, value) in data.as_chunks().0.iter().zip(out) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(value: f32) -> f32 {
        let (mut bytes, mut out) = ([0; 2], [0.0]);
        encode(&[value], &mut bytes);
        decode(&bytes, &mut out);
        out[0]
    }

    #[test]
    fn ties_go_to_even() {
        let ulp = f32::from_bits(0x3F81_0000) - 1.0;
        assert_eq!(through(1.0 + ulp / 2.0), 1.0);
        assert_eq!(through(1.0 + ulp * 1.5), 1.0 + ulp * 2.0);
        assert_eq!(through(-1.0 - ulp * 0.51), -1.0 - ulp);
    }

    #[test]
    fn finite_stays_finite_and_nothing_else_becomes_so() {
        assert_eq!(through(f32::MAX), f32::from_bits(0x7F7F_0000));
        assert_eq!(through(-f32::MAX), f32::from_bits(0xFF7F_0000));
        assert_eq!(through(f32::NEG_INFINITY), f32::NEG_INFINITY);
        for nan in [0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF] {
            assert!(through(f32::from_bits(nan)).is_nan());
        }
        assert!(through(-0.0).is_sign_negative());
    }
}
