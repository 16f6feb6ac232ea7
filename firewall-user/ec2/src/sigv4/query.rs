//! Percent-encoding of parameters, in a query and in a form.

/// A `%` that two hexadecimal digits do not follow, or bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed percent-encoding")]
pub struct Malformed;

/// The parameters of a query or form, decoded, in the order in which they are there. One without `=` has an empty
/// value; empty parts between two `&` are left out.
///
/// # Errors
/// The encoding of one is malformed.
pub fn parameters(query: &str) -> Result<Vec<(String, String)>, Malformed> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

/// `+` is a space, as in forms: no client signs it as anything else.
fn decode(text: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let ([high, low], after) = after.split_first_chunk().ok_or(Malformed)?;
                rest = after;
                digit(*high)? << 4 | digit(*low)?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| Malformed)
}

fn digit(byte: u8) -> Result<u8, Malformed> {
    let digit = char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digit.ok_or(Malformed)
}

/// Encodes everything but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => {
                let _ = write!(encoded, "%{other:02X}");
            }
        }
        encoded
    })
}
