//! The entries of a prefix list: networks with descriptions, cheap to clone and to compare.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::slice;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::networks::{self, Networks};

/// Networks, sorted, each once, some with a description. An IPv4 network takes 5 bytes and an IPv6 network 17;
/// clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    networks: Networks,
    descriptions: Descriptions,
}

/// The position of an entry, and its description, which is not empty.
type Description = (u32, Box<str>);

/// The descriptions that are not empty, by the position of their network.
#[derive(Clone, Debug, Default)]
struct Descriptions(Option<Arc<[Description]>>);

impl Descriptions {
    fn all(&self) -> &[Description] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl PartialEq for Descriptions {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.all(), other.all());
        std::ptr::eq(one, other) || one == other
    }
}

impl Eq for Descriptions {}

impl Entries {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// The networks.
    #[must_use]
    pub const fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Whether there is an entry of exactly this network.
    #[must_use]
    pub fn contains(&self, network: &IpNet) -> bool {
        self.networks.position(network).is_some()
    }

    /// The description of the entry of exactly this network: empty if it has none, `None` if there is no entry.
    #[must_use]
    pub fn get(&self, network: &IpNet) -> Option<&str> {
        let position = u32::try_from(self.networks.position(network)?).ok()?;
        let all = self.descriptions.all();
        let found = all.binary_search_by_key(&position, |(position, _)| *position);
        Some(found.map_or("", |at| &all[at].1))
    }

    /// The entries in the order of [`Networks::iter`]; a description may be empty.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        let descriptions = self.descriptions.all().iter();
        Iter { networks: self.networks.iter(), descriptions, position: 0 }
    }

    /// The descriptions that are not empty, each with the position of its entry in [`Self::iter`].
    pub fn descriptions(&self) -> impl Iterator<Item = (u32, &str)> {
        self.descriptions.all().iter().map(|(position, text)| (*position, &**text))
    }

    /// The entries of both.
    ///
    /// # Errors
    /// The first network that both have.
    pub fn with(&self, more: &Self) -> Result<Self, IpNet> {
        let mut builder = Builder::default();
        let (mut ours, mut theirs) = (self.iter().peekable(), more.iter().peekable());
        while let Some(Merged { network, one, other }) = merge(&mut ours, &mut theirs) {
            match (one, other) {
                (Some(_), Some(_)) => return Err(network),
                (Some(text), None) | (None, Some(text)) => builder.push(network, text),
                (None, None) => {}
            }
        }
        Ok(builder.finish())
    }

    /// The entries without some, which may be repeated.
    ///
    /// # Errors
    /// The first network that is no entry.
    pub fn without(&self, networks: &Networks) -> Result<Self, IpNet> {
        if let Some(missing) = networks.iter().find(|network| !self.contains(network)) {
            return Err(missing);
        }
        let mut gone = networks.iter().peekable();
        let mut builder = Builder::default();
        for (network, text) in self {
            if gone.next_if_eq(&network).is_none() {
                builder.push(network, text);
            }
        }
        Ok(builder.finish())
    }

    /// The entries with other descriptions: of a network that is repeated the last one, and of those that are
    /// not entries none.
    #[must_use]
    pub fn described(&self, descriptions: Vec<(IpNet, String)>) -> Self {
        let mut all: Vec<Description> = descriptions
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .filter_map(|(network, text)| {
                let position = self.networks.position(&network)?;
                Some((u32::try_from(position).ok()?, text.into()))
            })
            .collect();
        // The last one of a network first, because that is kept.
        all.reverse();
        all.sort_by_key(|(position, _)| *position);
        all.dedup_by_key(|(position, _)| *position);
        let all = (!all.is_empty()).then(|| all.into());
        Self { networks: self.networks.clone(), descriptions: Descriptions(all) }
    }

    /// How these entries become others, in the order of their networks: one pass over both.
    #[must_use]
    pub fn diff<'a>(&'a self, new: &'a Self) -> Diff<'a> {
        let is_same =
            self.networks.are_shared(&new.networks) && self.descriptions == new.descriptions;
        let [old, new] =
            if is_same { <[Iter<'a>; 2]>::default() } else { [self.iter(), new.iter()] };
        Diff { old: old.peekable(), new: new.peekable() }
    }

    /// Entries as they are stored: each network once, in the order of [`Networks::iter`], and the descriptions
    /// with the positions of theirs. `None`: they are not in order, or not all positions are those of an entry.
    #[must_use]
    pub fn from_sorted(
        v4: Vec<Ipv4Net>,
        v6: Vec<Ipv6Net>,
        descriptions: Vec<Description>,
    ) -> Option<Self> {
        let is_sorted = v4.is_sorted_by(|one, next| one < next)
            && v6.is_sorted_by(|one, next| one < next)
            && descriptions.is_sorted_by(|one, next| one.0 < next.0);
        let count = v4.len() + v6.len();
        let is_within = |(position, _): &(u32, _)| {
            usize::try_from(*position).is_ok_and(|position| position < count)
        };
        if !is_sorted || !descriptions.last().is_none_or(is_within) {
            return None;
        }
        Some(Builder { v4, v6, descriptions }.finish())
    }
}

impl From<Networks> for Entries {
    /// Entries without descriptions.
    fn from(networks: Networks) -> Self {
        Self { networks, descriptions: Descriptions::default() }
    }
}

impl FromIterator<(IpNet, String)> for Entries {
    /// Of a network that is repeated the last description counts.
    fn from_iter<I: IntoIterator<Item = (IpNet, String)>>(entries: I) -> Self {
        let mut all: Vec<_> = entries.into_iter().collect();
        all.sort_by_key(|(network, _)| *network);
        let mut builder = Builder::default();
        for same in all.chunk_by(|(one, _), (next, _)| one == next) {
            if let Some((network, text)) = same.last() {
                builder.push(*network, text);
            }
        }
        builder.finish()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = (IpNet, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Entries whose networks are pushed in order.
#[derive(Default)]
struct Builder {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
    descriptions: Vec<Description>,
}

impl Builder {
    fn push(&mut self, network: IpNet, description: &str) {
        if !description.is_empty() {
            let position = u32::try_from(self.v4.len() + self.v6.len()).unwrap_or(u32::MAX);
            self.descriptions.push((position, description.into()));
        }
        match network {
            IpNet::V4(network) => self.v4.push(network),
            IpNet::V6(network) => self.v6.push(network),
        }
    }

    fn finish(self) -> Entries {
        let Self { mut v4, mut v6, descriptions } = self;
        v4.shrink_to_fit();
        v6.shrink_to_fit();
        let descriptions = (!descriptions.is_empty()).then(|| descriptions.into());
        Entries { networks: Networks::sorted(v4, v6), descriptions: Descriptions(descriptions) }
    }
}

/// Entries in the order of their networks.
#[derive(Clone, Debug, Default)]
pub struct Iter<'a> {
    networks: networks::Iter<'a>,
    descriptions: slice::Iter<'a, Description>,
    position: u32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (IpNet, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let network = self.networks.next()?;
        let description = match self.descriptions.as_slice().first() {
            Some((position, text)) if *position == self.position => {
                self.descriptions.next();
                text
            }
            _ => "",
        };
        self.position += 1;
        Some((network, description))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.networks.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// What happens to an entry between two versions of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryChange<'a> {
    /// It is new, with this description.
    Added(IpNet, &'a str),
    /// It goes.
    Removed(IpNet),
    /// It gets this description.
    Described(IpNet, &'a str),
}

/// See [`Entries::diff`].
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    old: Peekable<Iter<'a>>,
    new: Peekable<Iter<'a>>,
}

impl<'a> Iterator for Diff<'a> {
    type Item = EntryChange<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Merged { network, one, other } = merge(&mut self.old, &mut self.new)?;
            match (one, other) {
                (None, Some(text)) => return Some(EntryChange::Added(network, text)),
                (Some(_), None) => return Some(EntryChange::Removed(network)),
                (Some(was), Some(is)) if was != is => {
                    return Some(EntryChange::Described(network, is));
                }
                _ => {}
            }
        }
    }
}

/// A network of one or two lists, with its description in each.
struct Merged<'a> {
    network: IpNet,
    one: Option<&'a str>,
    other: Option<&'a str>,
}

/// The next network of two lists, with its description in each that has it.
fn merge<'a>(one: &mut Peekable<Iter<'a>>, other: &mut Peekable<Iter<'a>>) -> Option<Merged<'a>> {
    let order = match (one.peek(), other.peek()) {
        (None, None) => return None,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some((here, _)), Some((there, _))) => here.cmp(there),
    };
    let here = if order == Ordering::Greater { None } else { one.next() };
    let there = if order == Ordering::Less { None } else { other.next() };
    let network = here.or(there)?.0;
    let text = |entry: Option<(IpNet, &'a str)>| entry.map(|(_, text)| text);
    Some(Merged { network, one: text(here), other: text(there) })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Map = BTreeMap<IpNet, String>;

    /// Few different networks and texts, so that maps have entries in common.
    fn map() -> impl Strategy<Value = Map> {
        let entry = (any::<bool>(), 0_u32..24, 24_u8..=32, "[ab]?").prop_map(
            |(is_v4, bits, length, text)| {
                let network = if is_v4 {
                    Ipv4Net::new_assert(bits.into(), length).trunc().into()
                } else {
                    let bits = u128::from(bits) << 96;
                    Ipv6Net::new_assert(bits.into(), length).trunc().into()
                };
                (network, text)
            },
        );
        prop::collection::vec(entry, 0..30).prop_map(|entries| entries.into_iter().collect())
    }

    fn entries(map: &Map) -> Entries {
        map.clone().into_iter().collect()
    }

    fn same(entries: &Entries, map: &Map) -> bool {
        entries.len() == map.len()
            && entries.iter().eq(map.iter().map(|(network, text)| (*network, &**text)))
    }

    proptest! {
        #[test]
        fn entries_are_an_ordered_map(map in map(), other in map()) {
            let all = entries(&map);
            prop_assert!(same(&all, &map));
            prop_assert_eq!(all.is_empty(), map.is_empty());
            prop_assert_eq!(all.iter().len(), map.len());
            for network in map.keys().chain(other.keys()) {
                prop_assert_eq!(all.get(network), map.get(network).map(|text| &**text));
                prop_assert_eq!(all.contains(network), map.contains_key(network));
            }
            prop_assert_eq!(all == entries(&other), map == other);
        }

        #[test]
        fn entries_are_added_and_removed(map in map(), other in map(), some in any::<prop::sample::Index>()) {
            let all = entries(&map);
            let twice = other.keys().find(|network| map.contains_key(network));
            match (all.with(&entries(&other)), twice) {
                (Err(network), Some(twice)) => prop_assert_eq!(&network, twice),
                (Ok(both), None) => {
                    let expected = map.clone().into_iter().chain(other.clone()).collect();
                    prop_assert!(same(&both, &expected));
                    let gone: Networks = other.keys().copied().collect();
                    prop_assert_eq!(&both.without(&gone).unwrap(), &all);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            let count = if map.is_empty() { 0 } else { some.index(map.len()) };
            let gone: BTreeSet<IpNet> = map.keys().copied().take(count).collect();
            let mut rest = map.clone();
            rest.retain(|network, _| !gone.contains(network));
            prop_assert!(same(&all.without(&gone.into_iter().collect()).unwrap(), &rest));
            let missing = other.keys().find(|network| !map.contains_key(network));
            let of_other: Networks = other.keys().copied().collect();
            prop_assert_eq!(all.without(&of_other).err(), missing.copied());
        }

        #[test]
        fn entries_are_described(map in map(), texts in prop::collection::vec((any::<prop::sample::Index>(), "[a-c]?"), 0..9)) {
            let networks: Vec<IpNet> = map.keys().copied().collect();
            prop_assume!(!networks.is_empty());
            let texts = texts.into_iter().map(|(at, text)| (*at.get(&networks), text));
            let texts: Vec<_> = texts.filter(|(_, text)| !text.is_empty()).collect();
            let last: Map = texts.iter().cloned().collect();
            let all = entries(&map);
            let described = all.described(texts);
            for network in &networks {
                let text = last.get(network).map_or("", |text| text);
                prop_assert_eq!(described.get(network), Some(text));
            }
            prop_assert_eq!(described.networks(), all.networks());
        }

        #[test]
        fn a_difference_makes_the_new_entries_of_the_old(map in map(), other in map()) {
            let (old, new) = (entries(&map), entries(&other));
            let mut made = map.clone();
            for change in old.diff(&new) {
                match change {
                    EntryChange::Added(network, text) => {
                        prop_assert!(made.insert(network, text.to_owned()).is_none());
                    }
                    EntryChange::Removed(network) => {
                        prop_assert!(made.remove(&network).is_some());
                    }
                    EntryChange::Described(network, text) => {
                        let was = made.insert(network, text.to_owned());
                        prop_assert!(was.is_some_and(|was| was != text));
                    }
                }
            }
            prop_assert_eq!(made, other);
            let same = old.clone();
            prop_assert_eq!(old.diff(&same).next(), None);
        }

        #[test]
        fn stored_entries_are_checked(map in map(), swapped in any::<prop::sample::Index>()) {
            let all = entries(&map);
            let (v4, v6) = (all.networks().v4().to_vec(), all.networks().v6().to_vec());
            let texts: Vec<Description> =
                all.descriptions().map(|(position, text)| (position, text.into())).collect();
            let read = Entries::from_sorted(v4.clone(), v6.clone(), texts.clone());
            prop_assert_eq!(read.as_ref(), Some(&all));
            if v4.len() > 1 {
                let at = swapped.index(v4.len() - 1);
                let mut wrong = v4.clone();
                wrong.swap(at, at + 1);
                prop_assert_eq!(Entries::from_sorted(wrong, v6.clone(), Vec::new()), None);
                let mut twice = v4.clone();
                twice[at] = twice[at + 1];
                prop_assert_eq!(Entries::from_sorted(twice, v6.clone(), Vec::new()), None);
            }
            let beyond = u32::try_from(all.len()).unwrap();
            prop_assert_eq!(Entries::from_sorted(v4, v6, vec![(beyond, "a".into())]), None);
        }
    }
}
