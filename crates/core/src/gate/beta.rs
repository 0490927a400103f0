//! Logarithms of the Beta function and its incomplete integrals, bit for bit alike everywhere.
//!
//! # Invariants
//!
//! * Only `+ - * /` and comparisons on `f64`, which IEEE 754 defines to the last bit: the
//!   platform's own logarithm, which differs between machines, is not called.
//! * Relative errors stay below 1e-9 for counts up to ten million.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "exponents of f64 are cut to their range before they are cast"
)]

use core::f64::consts::{LN_2, SQRT_2};

/// The natural logarithm of a positive, normal number.
pub(super) fn ln(number: f64) -> f64 {
    let bits = number.to_bits();
    let mut exponent = f64::from(((bits >> 52) & 0x7ff) as u32) - 1_023.0;
    let mut mantissa =
        f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    // At most 0.03 per term: twelve terms reach the last bit.
    let mut sum = 0.0;
    for term in (0_u8..12).rev() {
        sum = sum * square + 1.0 / f64::from(2 * term + 1);
    }
    2.0 * ratio * sum + exponent * LN_2
}

/// e to the power of `exponent`; zero where that is too small for a normal number.
pub(super) fn exp(exponent: f64) -> f64 {
    let twos = (exponent / LN_2).floor();
    if twos < -1_000.0 {
        return 0.0;
    }
    let twos = twos.min(1_000.0);
    let rest = exponent - twos * LN_2;
    // At most 0.7 to the power of 20, by 20 factorial: beyond the last bit.
    let mut sum = 1.0;
    for term in (1_u8..=20).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    sum * f64::from_bits(((twos + 1_023.0) as u64) << 52)
}

/// ln B(a, b).
pub(super) fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// The logarithm of the integral of t^(a-1) (1-t)^(b-1) from 0 to `x`, which lies
/// between 0 and 1.
pub(super) fn ln_beta_below(x: f64, a: f64, b: f64) -> f64 {
    let whole = ln_beta(a, b);
    if x < (a + 1.0) / (a + b + 2.0) {
        return ln_tail(x, a, b);
    }
    let above = exp(ln_tail(1.0 - x, b, a) - whole);
    whole + ln((1.0 - above).max(f64::MIN_POSITIVE))
}

/// The chance of a Beta(a, b) variable below `x`.
pub(super) fn chance_below(x: f64, a: f64, b: f64) -> f64 {
    exp(ln_beta_below(x, a, b) - ln_beta(a, b))
}

/// The integral where its continued fraction converges quickly: `x` below the mean.
fn ln_tail(x: f64, a: f64, b: f64) -> f64 {
    a * ln(x) + b * ln(1.0 - x) - ln(a) + ln(fraction(x, a, b))
}

/// The most steps of the fraction; it needs about the square root of the larger argument.
const STEPS_MAX: u32 = 20_000;

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let away_from_zero = |number: f64| {
        if number.abs() < 1e-300 { 1e-300 } else { number }
    };
    let mut over = 1.0;
    let mut under = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = under;
    for step in 1..=STEPS_MAX {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        under = 1.0 / away_from_zero(1.0 + even * under);
        over = away_from_zero(1.0 + even / over);
        value *= over * under;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        under = 1.0 / away_from_zero(1.0 + odd * under);
        over = away_from_zero(1.0 + odd / over);
        let change = over * under;
        value *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// ln(2 π) / 2.
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// ln Γ of a positive number: Stirling's series, after moving up to where six terms of it
/// reach the last bit.
fn ln_gamma(number: f64) -> f64 {
    let mut at = number;
    let mut product = 1.0;
    while at < 16.0 {
        product *= at;
        at += 1.0;
    }
    let inverse = 1.0 / at;
    let square = inverse * inverse;
    let terms = [
        -691.0 / 360_360.0,
        1.0 / 1_188.0,
        -1.0 / 1_680.0,
        1.0 / 1_260.0,
        -1.0 / 360.0,
        1.0 / 12.0,
    ];
    let series = terms.iter().fold(0.0, |sum, term| sum * square + term) * inverse;
    (at - 0.5) * ln(at) - at + HALF_LN_TAU + series - ln(product)
}

#[cfg(test)]
mod tests {
    use super::{chance_below, exp, ln, ln_beta, ln_gamma};

    fn close(got: f64, expected: f64) {
        let error = (got - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-12, "{got} instead of {expected}");
    }

    #[test]
    fn elementary_functions_agree_with_the_platform() {
        for number in [1e-9, 0.02, 0.5, 0.999, 1.0, 1.5, 2.0, 20.0, 12_345.678, 1e15] {
            close(ln(number), number.ln());
        }
        for exponent in [-600.0, -20.0, -1.0, -1e-9, 0.0, 0.5, 1.0, 12.3, 600.0] {
            close(exp(exponent) / exponent.exp(), 1.0);
        }
        close(exp(-5_000.0), 0.0);
    }

    #[test]
    fn gamma_and_beta_agree_with_factorials() {
        let mut factorial = 0.0;
        for n in 1..200_u32 {
            close(ln_gamma(f64::from(n)), factorial);
            factorial += f64::from(n).ln();
        }
        close(ln_gamma(0.5), 0.572_364_942_924_700_1);
        close(ln_beta(2.0, 3.0), -(12.0_f64.ln()));
    }

    #[test]
    fn chances_agree_with_closed_forms_on_both_sides() {
        for x in [0.001, 0.02, 0.3, 0.5, 0.7, 0.99] {
            close(chance_below(x, 1.0, 1.0), x);
            close(chance_below(x, 1.0, 40.0), 1.0 - (1.0 - x).powi(40));
            close(chance_below(x, 40.0, 1.0), x.powi(40));
            close(chance_below(x, 2.0, 2.0), x * x * (3.0 - 2.0 * x));
        }
    }

    #[test]
    fn a_million_samples_still_converge() {
        let half = chance_below(0.01, 10_000.0, 990_000.0);

        assert!((half - 0.5).abs() < 0.01, "{half}");
    }
}
