//! Shamir's secret sharing over GF(2^8), in the layout of Vault: the y bytes, then one x byte.

use zeroize::Zeroizing;

use crate::error::{Reason, Result};

use super::fault::fault;

/// Combines all shares given. Too few shares give a wrong secret, not an error: count them before.
pub(super) fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Result<Zeroizing<Vec<u8>>> {
    let broken = || fault(Reason::Malformed, "the shares of its data key do not fit together");
    let length = shares.first().map_or(0, |share| share.len());
    if length < 2 || shares.len() < 2 || shares.iter().any(|share| share.len() != length) {
        return Err(broken());
    }
    let points: Vec<u8> = shares.iter().map(|share| share[length - 1]).collect();
    let distinct = points.iter().enumerate().all(|(i, x)| *x != 0 && !points[..i].contains(x));
    if !distinct {
        return Err(broken());
    }
    let mut secret = Zeroizing::new(vec![0; length - 1]);
    for (i, share) in shares.iter().enumerate() {
        let others = points.iter().enumerate().filter(|(j, _)| *j != i);
        let weight = others.fold(1, |weight, (_, x)| multiply(weight, multiply(*x, invert(x ^ points[i]))));
        for (byte, y) in secret.iter_mut().zip(share.iter()) {
            *byte ^= multiply(weight, *y);
        }
    }
    Ok(secret)
}

/// Multiplies modulo x^8 + x^4 + x^3 + x + 1, in the same time for all inputs.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        a = (a << 1) ^ (0x1B & (a >> 7).wrapping_neg());
        b >>= 1;
    }
    product
}

/// The inverse of a number that is not zero: its 254th power.
fn invert(a: u8) -> u8 {
    let mut power = a;
    for _ in 0..6 {
        power = multiply(multiply(power, power), a);
    }
    multiply(power, power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(shares: &[&[u8]]) -> Option<Vec<u8>> {
        let shares: Vec<_> = shares.iter().map(|share| Zeroizing::new(share.to_vec())).collect();
        combine(&shares).ok().map(|secret| secret.to_vec())
    }

    #[test]
    fn shares_on_a_line_give_where_it_starts() {
        // 7 + 9x at 1, 2 and 3: addition is exclusive or.
        let at = |x: u8| [0x07 ^ multiply(0x09, x), x];
        assert_eq!(combined(&[&at(1), &at(2)]), Some(vec![7]));
        assert_eq!(combined(&[&at(2), &at(3), &at(255)]), Some(vec![7]));
    }

    #[test]
    fn shares_that_do_not_fit_together_are_refused() {
        let unfit: [&[&[u8]]; 6] =
            [&[], &[&[5, 1]], &[&[5, 1], &[6, 1]], &[&[5, 1], &[6, 0]], &[&[5, 1], &[6, 6, 2]], &[&[1], &[2]]];
        for shares in unfit {
            assert_eq!(combined(shares), None, "{shares:?}");
        }
    }

    #[test]
    fn every_number_but_zero_has_an_inverse() {
        assert!((1..=255).all(|a| multiply(a, invert(a)) == 1));
        assert_eq!(multiply(0x53, 0xCA), 1, "the example of FIPS 197");
    }
}
