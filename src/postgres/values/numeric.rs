//! NUMERIC from the wire to text, digit for digit.

use std::fmt::Write as _;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Reads the wire form: a header of four 16-bit numbers, then digits of base 10,000. `None` if malformed.
pub(crate) fn to_text(raw: &[u8]) -> Option<String> {
    let (header, digits) = raw.split_first_chunk::<8>()?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (count, weight, sign, scale) = (word(0), i32::from(word(2).cast_signed()), word(4), usize::from(word(6)));
    match sign {
        NAN => return Some("NaN".into()),
        INFINITY => return Some("Infinity".into()),
        NEGATIVE_INFINITY => return Some("-Infinity".into()),
        _ => {}
    }
    let (digits, []) = digits.as_chunks::<2>() else { return None };
    if digits.len() != usize::from(count) {
        return None;
    }
    // The digit worth 10,000 to the power of `weight - index`; those not sent are zero.
    let digit = |index: i32| {
        let found = usize::try_from(index).ok().and_then(|index| digits.get(index));
        found.map_or(0, |bytes| u16::from_be_bytes(*bytes))
    };

    let mut text = String::from(if sign == NEGATIVE { "-" } else { "" });
    write!(text, "{}", if weight < 0 { 0 } else { digit(0) }).ok()?;
    (1..=weight).try_for_each(|index| write!(text, "{:04}", digit(index))).ok()?;
    if scale > 0 {
        text.push('.');
        let end = text.len() + scale;
        let mut index = weight + 1;
        while text.len() < end {
            write!(text, "{:04}", digit(index)).ok()?;
            index += 1;
        }
        text.truncate(end);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let header = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, scale];
        header.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn digits_land_on_the_right_side_of_the_point() {
        assert_eq!(to_text(&wire(0, 0, 0, &[])).unwrap(), "0");
        assert_eq!(to_text(&wire(0, 0, 2, &[12, 3400])).unwrap(), "12.34");
        assert_eq!(to_text(&wire(1, NEGATIVE, 0, &[1, 1])).unwrap(), "-10001");
        assert_eq!(to_text(&wire(2, 0, 0, &[7])).unwrap(), "700000000");
        assert_eq!(to_text(&wire(-2, 0, 10, &[1234])).unwrap(), "0.0000123400");
        assert_eq!(to_text(&wire(0, NAN, 0, &[])).unwrap(), "NaN");
    }

    #[test]
    fn malformed_bytes_are_refused() {
        assert_eq!(to_text(b""), None);
        assert_eq!(to_text(&wire(0, 0, 0, &[1])[..9]), None);
        let mut long = wire(0, 0, 0, &[1]);
        long.extend([0, 1]);
        assert_eq!(to_text(&long), None);
    }
}
