//! Files of networks, in the forms in which public lists come: a CIDR or an address on each line, `#` and `;`
//! begin comments, and blank lines.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::text::fitted;
use super::{Entries, Family, Networks, parse_cidr};

/// Things of which the first few are named and the others counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<T> {
    /// The first few.
    pub first: Vec<T>,
    /// How many there are.
    pub count: usize,
}

/// How many of a [`Sample`] are named.
const NAMED: usize = 3;

impl<T> Default for Sample<T> {
    fn default() -> Self {
        Self { first: Vec::new(), count: 0 }
    }
}

impl<T> Sample<T> {
    fn add(&mut self, one: impl FnOnce() -> T) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(one());
        }
    }
}

/// The networks of a file.
#[derive(Clone, Debug, Default)]
pub struct ListFile {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
    /// Of the entries with a description, if they are wanted.
    described: Vec<(IpNet, String)>,
    /// The first line with a network of each family.
    first: [Option<(usize, IpNet)>; 2],
    /// Lines with host bits, and what is made of them: as in EC2, the network without.
    pub host_bits: Sample<(usize, IpNet)>,
    /// Descriptions that were shortened, or have other characters than those that EC2 allows.
    pub fitted: usize,
}

/// The entries of one family that a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entries.
    pub entries: Entries,
    /// How many lines repeat another.
    pub repeated: usize,
    /// How many lines are of the other family.
    pub left_out: usize,
}

/// A line that cannot be an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongLine {
    /// From 1.
    pub number: usize,
    /// Why, as the predicate of "the line".
    pub reason: String,
    /// It is a network, and as it stands hardly the one that was meant: the line may have been cut off.
    pub is_cut: bool,
}

/// The lines of a file that cannot be entries: the first few of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct WrongLines(pub Sample<WrongLine>);

impl fmt::Display for WrongLines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Sample { first, count }) = self;
        for (index, WrongLine { number, reason, .. }) in first.iter().enumerate() {
            let before = if index == 0 { "" } else { "; " };
            write!(out, "{before}line {number}: {reason}")?;
        }
        match count - first.len() {
            0 => Ok(()),
            1 => write!(out, "; and 1 more line"),
            more => write!(out, "; and {more} more lines"),
        }
    }
}

/// The bytes with which some editors begin a file of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The head of a table of DShield.
const DSHIELD: &[u8] = b"Start\tEnd\tNetmask";

impl ListFile {
    /// Reads a file. With `describe` the comment after a network becomes its description.
    ///
    /// # Errors
    /// Lines that are no network, no comment and not blank, or that name every address of a family, which no
    /// list of networks is meant to have; and large networks with host bits: `192.0.2.0/2` is what is left of
    /// `192.0.2.0/24` if a download breaks off.
    pub fn read(text: &[u8], describe: bool) -> Result<Self, WrongLines> {
        let mut file = Self::default();
        let mut wrong = Sample::default();
        let text = text.strip_prefix(BOM).unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let end = line.iter().position(|byte| matches!(byte, b'#' | b';'));
            let (word, comment) = line.split_at(end.unwrap_or(line.len()));
            let word = word.trim_ascii();
            if word.is_empty() || word.starts_with(DSHIELD) {
                continue;
            }
            match network(word) {
                Ok((network, has_host_bits)) => {
                    if has_host_bits {
                        file.host_bits.add(|| (number, network));
                    }
                    file.push(number, network);
                    if describe {
                        file.describe(network, comment);
                    }
                }
                Err(Wrong { reason, is_cut }) => {
                    wrong.add(|| WrongLine { number, reason: reason(), is_cut });
                }
            }
        }
        if wrong.count == 0 { Ok(file) } else { Err(WrongLines(wrong)) }
    }

    fn push(&mut self, number: usize, network: IpNet) {
        let [v4, v6] = &mut self.first;
        let first = match network {
            IpNet::V4(network) => {
                self.v4.push(network);
                v4
            }
            IpNet::V6(network) => {
                self.v6.push(network);
                v6
            }
        };
        first.get_or_insert((number, network));
    }

    fn describe(&mut self, network: IpNet, comment: &[u8]) {
        let comment = String::from_utf8_lossy(comment);
        let text = comment.trim_start_matches(['#', ';']).trim();
        if !text.is_empty() {
            let fitted = fitted(text);
            self.fitted += usize::from(fitted != text);
            self.described.push((network, fitted));
        }
    }

    /// The family of the first network; `None` if there is none.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let first = self.first.iter().flatten().min_by_key(|(number, _)| *number);
        first.map(|(_, network)| Family::of(network))
    }

    /// The entries of a family. With `only` networks of the other one are left out.
    ///
    /// # Errors
    /// The first line of the other family, without `only`.
    pub fn listed(self, family: Family, only: bool) -> Result<Listed, WrongLines> {
        let Self { mut v4, mut v6, described, first: [first_v4, first_v6], .. } = self;
        let (other, left_out) = match family {
            Family::Ipv4 => (first_v6, v6.len()),
            Family::Ipv6 => (first_v4, v4.len()),
        };
        if let Some((number, network)) = other.filter(|_| !only) {
            let reason = format!("{network} is not an {} network", family.document_name());
            let wrong = WrongLine { number, reason, is_cut: false };
            let wrong = Sample { first: vec![wrong], count: left_out };
            return Err(WrongLines(wrong));
        }
        match family {
            Family::Ipv4 => v6.clear(),
            Family::Ipv6 => v4.clear(),
        }
        let lines = v4.len() + v6.len();
        let networks = Networks::new(v4, v6);
        let repeated = lines - networks.len();
        let mut entries = Entries::from(networks);
        if !described.is_empty() {
            let described = described.into_iter().filter(|(one, _)| Family::of(one) == family);
            entries = entries.described(described.collect());
        }
        Ok(Listed { entries, repeated, left_out })
    }
}

/// The text of a reason, made only where it is printed.
type Reason<'a> = Box<dyn FnOnce() -> String + 'a>;

/// Why a line is refused; see [`WrongLine`].
struct Wrong<'a> {
    reason: Reason<'a>,
    is_cut: bool,
}

impl<'a> Wrong<'a> {
    fn new(reason: impl FnOnce() -> String + 'a) -> Self {
        Self { reason: Box::new(reason), is_cut: false }
    }
}

/// The shortest prefixes of networks that may have host bits: shorter ones are too many addresses for a slip.
const fn shortest_with_host_bits(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 16,
    }
}

/// The network of a line, and whether the line has host bits.
fn network(word: &[u8]) -> Result<(IpNet, bool), Wrong<'_>> {
    let Ok(text) = std::str::from_utf8(word) else {
        return Err(Wrong::new(|| "is not text in UTF-8".to_owned()));
    };
    let Some(found) = cidr(text).or_else(|| table_row(text)) else {
        return Err(Wrong::new(|| why_not(text)));
    };
    let network = found.trunc();
    if found.prefix_len() == 0 {
        let wrong = Wrong::new(move || format!("{found} is every address"));
        return Err(Wrong { is_cut: network != found, ..wrong });
    }
    if network != found && found.prefix_len() < shortest_with_host_bits(&found) {
        let wrong = Wrong::new(move || format!("{found} has host bits, and would be {network}"));
        return Err(Wrong { is_cut: true, ..wrong });
    }
    Ok((network, network != found))
}

/// A CIDR, perhaps with host bits, or an address.
fn cidr(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    // `u8` would also parse "+8".
    let length = Some(length).filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()));
    IpNet::new(address.parse().ok()?, length?.parse().ok()?).ok()
}

/// A row of DShield's table: the first address, the last one and the prefix length, which must agree.
fn table_row(text: &str) -> Option<IpNet> {
    let mut fields = text.split('\t').map(str::trim);
    let (first, last, length) = (fields.next()?, fields.next()?, fields.next()?);
    let network = IpNet::new(first.parse().ok()?, length.parse().ok()?).ok()?;
    let last: IpAddr = last.parse().ok()?;
    (network.network() == network.addr() && network.broadcast() == last).then_some(network)
}

/// The longest part of a line that a message has.
const SHOWN: usize = 40;

fn why_not(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN).map(|(at, _)| format!("{}...", &text[..at]));
    let text = cut.as_deref().unwrap_or(text);
    match text.contains('/').then(|| parse_cidr(text)) {
        Some(Err(error)) => error.to_string(),
        _ => format!("{text:?} is not a CIDR or an address"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(text: &[u8], family: Family) -> Listed {
        ListFile::read(text, false).unwrap().listed(family, false).unwrap()
    }

    fn texts(entries: &Entries) -> Vec<String> {
        entries.networks().iter().map(|network| network.to_string()).collect()
    }

    #[test]
    fn the_forms_of_public_lists_are_read() {
        let drop =
            b"; Spamhaus DROP List\r\n1.10.16.0/20 ; SBL256894\r\n\r\n1.19.0.0/16 ; SBL434604";
        let expected = ["1.10.16.0/20", "1.19.0.0/16"];
        assert_eq!(texts(&listed(drop, Family::Ipv4).entries), expected);
        let netset = b"\xef\xbb\xbf#\n# firehol_level1\n#\n0.0.0.0/8\n1.2.3.4\n  224.0.0.0/3  \n";
        let expected = ["0.0.0.0/8", "1.2.3.4/32", "224.0.0.0/3"];
        assert_eq!(texts(&listed(netset, Family::Ipv4).entries), expected);
        let six = b"2001:DB8::/32 # documentation\n::1\n\t# \xff\xfe not text\n";
        assert_eq!(texts(&listed(six, Family::Ipv6).entries), ["::1/128", "2001:db8::/32"]);
        let dshield = b"# by SANS\nStart\tEnd\tNetmask\tAttacks\tName\n\
            192.0.2.0\t192.0.2.255\t24\t1234\tExample Net\tUS\tabuse@example.net\n";
        assert_eq!(texts(&listed(dshield, Family::Ipv4).entries), ["192.0.2.0/24"]);
        assert_eq!(listed(b"", Family::Ipv4).entries, Entries::default());
        assert_eq!(ListFile::read(b"# none\n", false).unwrap().family(), None);
    }

    #[test]
    fn repeated_lines_and_host_bits_are_counted() {
        let file = b"10.0.0.9/8\n10.0.0.0/8\n192.0.2.1\n192.0.2.1/32\n10.1.0.0/15\n";
        let file = ListFile::read(file, false).unwrap();
        let network = |text: &str| text.parse().unwrap();
        let host_bits = vec![(1, network("10.0.0.0/8")), (5, network("10.0.0.0/15"))];
        assert_eq!(file.host_bits, Sample { first: host_bits, count: 2 });
        let Listed { entries, repeated, left_out } = file.listed(Family::Ipv4, false).unwrap();
        assert_eq!(texts(&entries), ["10.0.0.0/8", "10.0.0.0/15", "192.0.2.1/32"]);
        assert_eq!((repeated, left_out), (2, 0));
    }

    #[test]
    fn wrong_lines_are_named_and_counted() {
        let refused = |text: &[u8]| ListFile::read(text, false).unwrap_err().to_string();
        assert_eq!(
            refused(b"# list\n10.0.0.0/8\nexample.org\n"),
            "line 3: \"example.org\" is not a CIDR or an address"
        );
        assert_eq!(
            refused(b"10.0.0.0/33\n\n::/129\n<html>\n1.2.3.4 5\n1.2.3\n"),
            "line 1: CIDR \"10.0.0.0/33\" has a prefix length that is not 0 to 32; line 3: CIDR \"::/129\" has a \
             prefix length that is not 0 to 128; line 4: \"<html>\" is not a CIDR or an address; and 2 \
             more lines"
        );
        assert_eq!(refused(b"\xff\xfe1\x000"), "line 1: is not text in UTF-8");
        assert_eq!(refused(b"1.2.3.4\n::/0"), "line 2: ::/0 is every address");
        let long = refused("ä".repeat(1000).as_bytes());
        assert_eq!(long, format!("line 1: \"{}...\" is not a CIDR or an address", "ä".repeat(40)));
        // First and last address do not agree with the length.
        assert!(refused(b"192.0.2.0\t192.0.2.127\t24\n").starts_with("line 1: "));
    }

    #[test]
    fn networks_that_were_cut_off_are_refused() {
        for (text, reason) in [
            ("10.98.0.0/2", "10.98.0.0/2 has host bits, and would be 0.0.0.0/2"),
            ("10.98.0.0/7", "10.98.0.0/7 has host bits, and would be 10.0.0.0/7"),
            ("2001:db8::/3", "2001:db8::/3 has host bits, and would be 2000::/3"),
            ("2001:db8::/15", "2001:db8::/15 has host bits, and would be 2000::/15"),
            ("10.98.0.0/0", "10.98.0.0/0 is every address"),
        ] {
            let file = format!("192.0.2.0/24\n{text}");
            let WrongLines(wrong) = ListFile::read(file.as_bytes(), false).unwrap_err();
            let line = WrongLine { number: 2, reason: reason.to_owned(), is_cut: true };
            assert_eq!(wrong, Sample { first: vec![line], count: 1 });
        }
        for text in ["224.0.0.0/3", "10.98.0.0/8", "10.0.0.0/7", "2000::/3", "2001:db8::/16"] {
            assert!(ListFile::read(text.as_bytes(), false).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_list_has_one_family() {
        let file = ListFile::read(b"# both\n::1\n10.0.0.1\n10.0.0.2\n", false).unwrap();
        assert_eq!(file.family(), Some(Family::Ipv6));
        let error = file.clone().listed(Family::Ipv6, false).unwrap_err();
        let expected = "line 3: 10.0.0.1/32 is not an IPv6 network; and 1 more line";
        assert_eq!(error.to_string(), expected);
        let Listed { entries, left_out, .. } = file.clone().listed(Family::Ipv6, true).unwrap();
        assert_eq!((texts(&entries), left_out), (vec!["::1/128".to_owned()], 2));
        let Listed { entries, left_out, .. } = file.listed(Family::Ipv4, true).unwrap();
        assert_eq!((entries.len(), left_out), (2, 1));
    }

    #[test]
    fn comments_become_descriptions_only_on_request() {
        let text = "1.10.16.0/20 ; SBL256894\n10.0.0.0/8 # it's ours\n192.0.2.0/24\n::1 ;; six\n";
        let read = |describe| {
            let file = ListFile::read(text.as_bytes(), describe).unwrap();
            (file.fitted, file.listed(Family::Ipv4, true).unwrap().entries)
        };
        let (fitted, entries) = read(true);
        let texts: Vec<_> = entries.iter().map(|(_, text)| text).collect();
        assert_eq!((fitted, texts), (1, vec!["SBL256894", "it_s ours", ""]));
        let (fitted, entries) = read(false);
        assert_eq!((fitted, entries.descriptions().count()), (0, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>, describe: bool) {
            let _ = ListFile::read(&text, describe);
        }

        #[test]
        fn what_is_written_is_read(networks in prop::collection::vec((any::<[u8; 4]>(), 1_u8..=32), 0..20)) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(octets, length)| IpNet::new(octets.into(), length).unwrap().trunc())
                .collect();
            let text: String = networks.iter().map(|network| format!("{network}\n")).collect();
            let listed = listed(text.as_bytes(), Family::Ipv4);
            prop_assert_eq!(listed.entries.networks(), &Networks::from(networks));
        }
    }
}
