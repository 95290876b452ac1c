//! Medians and percentiles of measured samples. Pure.

/// The value below which `percent` of the samples lie (nearest rank). 0 for no samples.
pub fn percentile(samples: &mut [f64], percent: f64) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    samples.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank within the number of samples"
    )]
    let rank = ((percent / 100.0) * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}

pub fn median(samples: &mut [f64]) -> f64 {
    percentile(samples, 50.0)
}

/// Three significant digits are all that shared cores give.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(2.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(&mut samples, 50.0) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(&mut samples, 99.0) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&mut samples, 100.0) - 100.0).abs() < f64::EPSILON);
        assert!(percentile(&mut [], 50.0).abs() < f64::EPSILON);
    }

    #[test]
    fn rounding_keeps_three_digits() {
        assert!((rounded(12_345.6) - 12_300.0).abs() < 1e-9);
        assert!((rounded(0.012_345) - 0.0123).abs() < 1e-9);
    }
}
