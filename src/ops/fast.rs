//! Elementary functions without branches or tables, so that loops over them become vector instructions.

/// e^x with a relative error below 2e-7; 0 below -87.3 and capped at the largest power of e that is finite.
///
/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln(2) / 2`, e^r by its Taylor polynomial of degree 6, minimax
/// adjusted (the coefficients of Cephes' expf).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127) << 23;
    // A product, so that what is not a number stays so.
    e * f32::from_bits(exponent)
}

/// `x s(x)` with the logistic function s.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_ulps() {
        for i in -8_700..8_830 {
            let x = i as f32 * 0.01 + 0.003;
            let (y, want) = (f64::from(exp(x)), f64::from(x.clamp(-87.3, 88.3)).exp());
            assert!((y - want).abs() <= 2.4e-7 * want, "exp({x}) = {y:e}, not {want:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1.3e-38 && exp(f32::INFINITY).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_smooth_into_its_ends() {
        for x in [-100.0f32, -20.0, -3.0, 0.0, 0.5, 100.0] {
            let want = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(silu(x)) - want).abs() <= 1e-6 * want.abs().max(1e-6), "{x}");
        }
    }
}
