//! Sums over many numbers that come out the same on every machine.

/// Lanes that are summed apart, so that a compiler may use vectors of any width without changing the result.
const LANES: usize = 8;

/// The sum of squares in double precision: lane by lane, then the lanes in order.
pub fn squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*value) * f64::from(*value);
    }
    lanes.iter().sum()
}

/// total + rest ← total + rest + weight · values, entry by entry.
///
/// `rest` gathers the rounding errors of `total` (Knuth's two-sum), so that their sum hardly depends on the order of the
/// additions. The product is exact for whole weights below 2²⁹.
pub fn accumulate(total: &mut [f64], rest: &mut [f32], values: &[f32], weight: f64) {
    for ((total, rest), value) in total.iter_mut().zip(rest).zip(values) {
        let term = f64::from(*value) * weight;
        let before = *total;
        let sum = before + term;
        let came = sum - before;
        let error = (before - (sum - came)) + (term - came);
        *total = sum;
        *rest = (f64::from(*rest) + error) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_of_any_length_are_summed() {
        for length in [0, 1, 7, 8, 9, 100] {
            let values: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let expected: u64 = (0..length).map(|i| i * i).sum();
            assert_eq!(squares(&values), expected as f64);
        }
        assert!(squares(&[1.0, f32::NAN]).is_nan());
        assert_eq!(squares(&[f32::INFINITY]), f64::INFINITY);
        assert!(squares(&[f32::MAX; 3]).is_finite());
    }

    #[test]
    fn what_a_sum_rounds_away_is_kept() {
        let (mut total, mut rest) = ([0.0], [0.0]);
        for value in [1.0, 2.0_f32.powi(60), -(2.0_f32.powi(60))] {
            accumulate(&mut total, &mut rest, &[value], 3.0);
        }
        assert_eq!(total[0] + f64::from(rest[0]), 3.0);
    }
}
