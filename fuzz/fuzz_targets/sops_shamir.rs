//! Shares made by an arithmetic of our own come back as the secret; any other bytes never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom::keys::sops::fuzzing;

const MOST: usize = 12;

fuzz_target!(|input: (Vec<Vec<u8>>, [u8; 32], Vec<[u8; 32]>, Vec<u8>)| {
    let (any, secret, coefficients, mut points) = input;
    // The cost grows with the square of the number of shares.
    let _ = fuzzing::combine(&any[..any.len().min(MOST)]);
    points.sort_unstable();
    points.dedup();
    points.retain(|x| *x != 0);
    points.truncate(MOST);
    let coefficients = &coefficients[..coefficients.len().min(4)];
    if points.len() < coefficients.len() + 1 || points.len() < 2 {
        return;
    }
    let shares: Vec<Vec<u8>> = points.iter().map(|x| share(&secret, coefficients, *x)).collect();
    assert_eq!(fuzzing::combine(&shares).as_deref(), Some(&secret[..]));
});

/// The polynomials at `x`, by Horner's rule, and `x` behind them.
fn share(secret: &[u8; 32], coefficients: &[[u8; 32]], x: u8) -> Vec<u8> {
    let value = |place: usize| {
        let high = coefficients.iter().rev().fold(0, |sum, coefficient| multiply(sum, x) ^ coefficient[place]);
        multiply(high, x) ^ secret[place]
    };
    (0..32).map(value).chain([x]).collect()
}

/// Long multiplication, then long division: another way than the one under test.
fn multiply(a: u8, b: u8) -> u8 {
    let mut product = (0..8).filter(|bit| b >> bit & 1 == 1).fold(0_u16, |sum, bit| sum ^ u16::from(a) << bit);
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x11b << (bit - 8);
        }
    }
    product as u8
}
