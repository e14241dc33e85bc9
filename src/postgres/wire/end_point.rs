//! What binds a login to the TLS channel it goes through: `tls-server-end-point` of RFC 5929, a hash of the server's
//! certificate. Client and server mix it into the proof that they know the password, so that nobody can stand between
//! them with another certificate, even one that an authority has signed.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// The hash of a certificate, by the algorithm of its signature; nothing where RFC 5929 names none.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate_fields, _) = element(certificate)?;
    let (_, _, behind_body) = element(certificate_fields)?;
    let (_, algorithm, _) = element(behind_body)?;
    let (tag, algorithm, _) = element(algorithm)?;
    if tag != OBJECT_IDENTIFIER {
        return None;
    }
    Some(match (algorithm.strip_prefix(RSA), algorithm.strip_prefix(ECDSA)) {
        // MD5 and SHA-1 are too weak, and replaced.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Sha256::digest(certificate).to_vec(),
        (Some([12]), _) | (_, Some([3, 3])) => Sha384::digest(certificate).to_vec(),
        (Some([13]), _) | (_, Some([3, 4])) => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

const OBJECT_IDENTIFIER: u8 = 6;
/// 1.2.840.113549.1.1, of PKCS #1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
/// 1.2.840.10045.4, of X9.62.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];

/// The tag and the content of the first element of DER, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a certificate is as far as this goes: its body, and the algorithm of its signature.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let sequence = |content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[0x30, 0x82][..], &length, content].concat()
        };
        let identifier = [&[6, u8::try_from(algorithm.len()).unwrap()][..], algorithm, &[5, 0]].concat();
        sequence(&[sequence(&[0; 300]), sequence(&identifier), vec![3, 1, 0]].concat())
    }

    #[test]
    fn the_hash_is_that_of_the_signature_and_never_a_weak_one() {
        for (algorithm, length) in [
            ([RSA, &[5]].concat(), Some(32)),
            ([RSA, &[11]].concat(), Some(32)),
            ([RSA, &[12]].concat(), Some(48)),
            ([RSA, &[13]].concat(), Some(64)),
            ([ECDSA, &[1]].concat(), Some(32)),
            ([ECDSA, &[3, 2]].concat(), Some(32)),
            ([ECDSA, &[3, 3]].concat(), Some(48)),
            ([ECDSA, &[3, 4]].concat(), Some(64)),
            // RSASSA-PSS says its hash elsewhere, and Ed25519 has none.
            ([RSA, &[10]].concat(), None),
            (vec![0x2b, 0x65, 0x70], None),
        ] {
            let certificate = certificate(&algorithm);
            assert_eq!(end_point(&certificate).map(|hash| hash.len()), length, "{algorithm:?}");
            // RFC 5280 puts the signature behind it: what is cut off before is no certificate.
            for end in 0..certificate.len() {
                assert_eq!(end_point(&certificate[..end]), None);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            end_point(&bytes);
        }
    }
}
