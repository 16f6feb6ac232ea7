//! Fuzzes the forms of the EC2 API: what is read from one is what it says.

use arbitrary::{Result, Unstructured};
use firewall_ec2::Params;
use firewall_ec2::sigv4::parameters;

/// Parts of forms; others are random bytes.
const PARTS: [&str; 24] = [
    "&", "&", "&", "=", "=", "=", ".", ".", "1", "2", "10", "A", "B", "Filter", "Name", "Value",
    "%", "%41", "%2e", "%00", "%ff", "%zz", "+", "é",
];

/// The most parts of a form.
const MAX_PARTS: usize = 40;

/// Parses a form as the bytes encode it, and as a list of parts; returns how many parameters there are, and one for
/// each form.
///
/// # Panics
/// If a parameter is lost, changed, or accepted without being read.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let mut results = check(input);
    let mut bytes = Unstructured::new(input);
    while !bytes.is_empty() {
        let Ok(form) = text(&mut bytes, &PARTS, MAX_PARTS) else { break };
        results += check(form.as_bytes());
    }
    results
}

/// A text of parts, and of random characters.
pub(crate) fn text(bytes: &mut Unstructured<'_>, parts: &[&str], most: usize) -> Result<String> {
    let count = bytes.int_in_range(0..=most)?;
    let mut text = String::new();
    for _ in 0..count {
        let index: u8 = bytes.arbitrary()?;
        match parts.get(usize::from(index) % (parts.len() + 2)) {
            Some(part) => text.push_str(part),
            None => text.push(char::from(bytes.arbitrary::<u8>()?)),
        }
    }
    Ok(text)
}

fn check(form: &[u8]) -> u64 {
    let _ = Params::parse(form);
    let Some(pairs) = std::str::from_utf8(form).ok().and_then(|text| parameters(text).ok()) else {
        return 1;
    };
    let Ok(params) = Params::from_pairs(pairs.iter().map(|(name, value)| (name, value))) else {
        return 1;
    };
    for (name, value) in &pairs {
        let parts: Vec<&str> = name.split('.').collect();
        let (last, above) = parts.split_last().expect("a name has a part");
        let place = above.iter().try_fold(&params, |params, part| params.node(part));
        let found = place.and_then(|params| params.text(last));
        let expected = Some(value.as_str()).filter(|value| !value.is_empty());
        assert_eq!(found, expected, "{name} of {pairs:?}");
    }
    // Each was read.
    params.finish().expect("nothing is left");
    let again = Params::from_pairs(pairs.iter().map(|(name, value)| (name, value)));
    let unread = again.expect("the same parameters").finish();
    assert_eq!(unread.is_err(), !pairs.is_empty(), "{pairs:?}");
    1 + u64::try_from(pairs.len()).unwrap_or(u64::MAX)
}
