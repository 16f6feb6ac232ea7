//! What the templates of all pages show.

use std::fs;
use std::sync::LazyLock;

/// The most rows of a table.
pub(super) const MAX_ROWS: usize = 200;

/// The name of this host.
static HOST: LazyLock<String> = LazyLock::new(|| {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this host".to_owned() } else { name.trim().to_owned() }
});

/// The pages, in the order of the navigation: path below the console's, and name.
pub(super) const PAGES: [(&str, &str); 5] = [
    ("./", "Overview"),
    ("drops", "Drops"),
    ("flows", "Flows"),
    ("rules", "Rules"),
    ("explain", "Explain"),
];

/// What is around the content of a page.
pub(super) struct Frame {
    /// The page's name in [`PAGES`].
    pub(super) title: &'static str,
    pub(super) host: &'static str,
    pub(super) pages: [(&'static str, &'static str); PAGES.len()],
    /// The same as JSON: a relative link; empty for none.
    pub(super) json: String,
}

impl Frame {
    pub(super) fn new(title: &'static str, json: impl Into<String>) -> Self {
        Self { title, host: &HOST, pages: PAGES, json: json.into() }
    }
}

/// A link to a page with the words of a request, but those in `own`, which have these values; words with an empty
/// value are left out.
pub(super) fn link(path: &str, words: &[(String, String)], own: &[(&str, &str)]) -> String {
    let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
    let kept = words.iter().filter(|(name, _)| !is_own(name));
    let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
    format!("{path}{}", query(kept.chain(own.iter().copied())))
}

/// A query of pairs, with `?` before it; empty without one. Pairs with an empty value are left out.
fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push(if text.is_empty() { '?' } else { '&' });
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

/// Everything but letters, digits and `-._~` is encoded, so that no part of a link is taken for another one.
fn encode(word: &str, into: &mut String) {
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use firewall_ec2::sigv4::parameters;

    use super::*;

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let pairs = [("from", "10.0.0.0/8"), ("group", "a&b=c d+\"<é>"), ("not", "true")];
        let text = query(pairs);
        assert!(text.bytes().all(|byte| !b"\"<>' ".contains(&byte)), "{text}");
        let read = parameters(&text[1..]).unwrap();
        assert_eq!(read, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(query([]), "");
        let words = [("port", "80"), ("start", "200"), ("port", "81")];
        let words = words.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(link("flows", &words, &[("start", "")]), "flows?port=80&port=81");
        assert_eq!(link("flows", &words, &[("start", "7")]), "flows?port=80&port=81&start=7");
    }
}
