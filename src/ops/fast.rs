//! Elementary functions without branches or tables, so that loops over them become vector instructions.

/// 1.5 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
const MAGIC: f32 = 12_582_912.0;

/// The integer nearest to a number of at most 2^22: without newer instructions than every x86-64 has, `round` is a call.
#[inline(always)]
pub fn nearest(x: f32) -> f32 {
    x + MAGIC - MAGIC
}

/// e^x with a relative error below 2e-7; 0 below -87.3 and capped at the largest power of e that is finite.
///
/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln(2) / 2`, e^r by its Taylor polynomial of degree 6, minimax
/// adjusted (the coefficients of Cephes' expf).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
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

/// The natural logarithm of a positive normal number, with an error below 2e-7 of it or of 1, whichever is larger.
///
/// `ln x = n ln 2 + ln m` with `m` within `sqrt(1/2)..sqrt(2)`, its logarithm by a minimax polynomial of degree 9 (the
/// coefficients of Cephes' logf).
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    /// The bits of `sqrt(1/2)`: taken off, what is left of the exponent is `n`.
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let shifted = x.to_bits().wrapping_sub(ROOT_HALF) as i32;
    let n = (shifted >> 23) as f32;
    let r = f32::from_bits(((shifted & 0x007f_ffff) as u32).wrapping_add(ROOT_HALF)) - 1.0;
    let mut p = 7.037_683_6e-2;
    p = p * r - 1.151_461e-1;
    p = p * r + 1.167_699_9e-1;
    p = p * r - 1.242_014_1e-1;
    p = p * r + 1.424_932_3e-1;
    p = p * r - 1.666_805_8e-1;
    p = p * r + 2.000_071_5e-1;
    p = p * r - 2.499_999_4e-1;
    p = p * r + 0.333_333_3;
    let square = r * r;
    p * r * square - 2.121_944_4e-4 * n - 0.5 * square + r + 0.693_359_4 * n
}

/// Sine and cosine of an angle in radians, |x| <= 1000, with an error below 2e-7.
///
/// `x = n pi / 2 + r` with `|r| <= pi / 4`, both functions of r by polynomials (the coefficients of Cephes' sinf and
/// cosf), exchanged and negated as the quadrant says.
#[inline(always)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    let shifted = x * std::f32::consts::FRAC_2_PI + MAGIC;
    let (n, quadrant) = (shifted - MAGIC, shifted.to_bits());
    // pi / 2 in three parts, of which products with a small integer are exact.
    let r = x - n * 1.570_312_5 - n * 4.837_513e-4 - n * 7.549_79e-8;
    let square = r * r;
    let sine = ((-1.951_529_6e-4 * square + 8.332_161e-3) * square - 1.666_665_5e-1) * square * r + r;
    let cosine =
        ((2.443_315_7e-5 * square - 1.388_731_6e-3) * square + 4.166_664_6e-2) * square * square - 0.5 * square + 1.0;
    let odd = quadrant & 1 == 1;
    let (s, c) = (if odd { cosine } else { sine }, if odd { sine } else { cosine });
    let sign = |bit: u32| (bit & 2) << 30;
    (f32::from_bits(s.to_bits() ^ sign(quadrant)), f32::from_bits(c.to_bits() ^ sign(quadrant.wrapping_add(1))))
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
    fn nearest_is_the_nearest() {
        for (x, want) in [(0.0, 0.0), (0.49, 0.0), (0.51, 1.0), (-2.6, -3.0), (-0.4, 0.0), (4_194_303.6, 4_194_304.0)] {
            assert_eq!(nearest(x), want, "{x}");
        }
    }

    #[test]
    fn ln_is_exact_to_two_ulps() {
        let mut x = f32::MIN_POSITIVE;
        while x < f32::MAX / 1.01 {
            let (y, want) = (f64::from(ln(x)), f64::from(x).ln());
            assert!((y - want).abs() <= 2e-7 * want.abs().max(1.0), "ln({x}) = {y:e}, not {want:e}");
            x *= 1.003_7;
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sin_cos_is_exact_in_every_quadrant() {
        for i in -100_000..100_000 {
            let x = i as f32 * 0.01 + 0.001;
            let ((s, c), (sine, cosine)) = (sin_cos(x), f64::from(x).sin_cos());
            let error = (f64::from(s) - sine).abs().max((f64::from(c) - cosine).abs());
            assert!(error < 2e-7, "{x}: {error:e}");
        }
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
    }

    #[test]
    fn silu_is_smooth_into_its_ends() {
        for x in [-100.0f32, -20.0, -3.0, 0.0, 0.5, 100.0] {
            let want = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(silu(x)) - want).abs() <= 1e-6 * want.abs().max(1e-6), "{x}");
        }
    }
}
