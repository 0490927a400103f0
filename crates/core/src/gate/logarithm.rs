//! Natural logarithms in fixed point, the same bits on every machine.
//!
//! # Invariants
//!
//! * No floating point: a line drawn here is the same line everywhere, forever.
//! * The error of one logarithm is below 2^-50, far below what one mailbox weighs.

/// A natural logarithm, or a sum of some, in units of 2^-56.
///
/// 56 bits leave room for products with counts of 32 bits and logarithms of 6 in an `i128`,
/// and for one product of two fractions while the series is summed.
pub(super) type Nats = i128;

/// How many bits lie behind the point.
pub(super) const FRACTION_BITS: u32 = 56;

/// One, in fixed point.
const ONE: u128 = 1 << FRACTION_BITS;

/// ln 2, in fixed point.
const LN_2: Nats = 49_946_518_145_322_874;

/// Terms of the series of artanh: its argument is at most 1/3, so each gains 3.1 bits.
const TERMS: u64 = 20;

/// The natural logarithm of `number`; of zero, that of one.
pub(super) fn ln(number: u128) -> Nats {
    let exponent = number.max(1).ilog2();
    let mantissa = if exponent > FRACTION_BITS {
        number >> (exponent - FRACTION_BITS)
    } else {
        number.max(1) << (FRACTION_BITS - exponent)
    };
    let ratio = ((mantissa - ONE) << FRACTION_BITS) / (mantissa + ONE);
    // All powers of a third fit 64 bits, and are divided much faster there.
    let ratio = u64::try_from(ratio).unwrap_or(0);
    let square = product(ratio, ratio);
    let mut power = ratio;
    let mut sum = 0;
    for term in 0..TERMS {
        sum += power / (2 * term + 1);
        power = product(power, square);
    }
    2 * i128::from(sum) + i128::from(exponent) * LN_2
}

/// The product of two fractions.
fn product(one: u64, other: u64) -> u64 {
    u64::try_from((u128::from(one) * u128::from(other)) >> FRACTION_BITS).unwrap_or(0)
}

/// The quotient rounded up; `divisor` is positive.
pub(super) fn div_ceil(number: i128, divisor: i128) -> i128 {
    -((-number).div_euclid(divisor))
}

/// As a count: nothing below zero, the largest above what fits.
pub(super) fn count(number: i128) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{LN_2, ONE, div_ceil, ln};

    #[test]
    fn logarithms_agree_with_known_ones() {
        let close = |number: u128, expected: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a test looks at 12 digits")]
            let got = ln(number) as f64 / ONE as f64;
            assert!((got - expected).abs() < 1e-12, "{number}: {got}");
        };

        close(1, 0.0);
        close(3, 1.098_612_288_668_11);
        close(10, core::f64::consts::LN_10);
        close(995_000, 13.810_498_016_140_7);
        close(10_u128.pow(30), 69.077_552_789_821_4);
    }

    #[test]
    fn powers_of_two_are_exact_and_zero_is_harmless() {
        assert_eq!(ln(2), LN_2);
        assert_eq!(ln(1 << 100), 100 * LN_2);
        assert_eq!(ln(0), 0);
    }

    #[test]
    fn a_quotient_rounds_up_on_both_sides_of_zero() {
        assert_eq!([div_ceil(7, 2), div_ceil(6, 2), div_ceil(-7, 2)], [4, 3, -3]);
    }
}
