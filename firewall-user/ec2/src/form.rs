//! The parameters of a request: a form whose names are paths, such as
//! `IpPermissions.1.IpRanges.2.CidrIp`. A list is numbered from 1; an empty value is an absent one, as in EC2.

use std::cell::Cell;
use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::sigv4::parameters;

/// The most parameters of a request: a thousand rules of four parameters fit.
pub const MAX_PARAMETERS: usize = 20_000;

/// The most parts of a parameter's name. The deepest of the actions that this program has are of five parts, such as
/// `TagSpecification.1.Tag.1.Key`.
pub const MAX_DEPTH: usize = 6;

/// The most structures, lists and values that all names make together: each takes memory, and a thousand rules make
/// less than 10,000.
pub const MAX_NODES: usize = 50_000;

/// The longest name of a parameter in bytes.
const MAX_NAME: usize = 256;

/// A structure of parameters: of the whole request, or below a name.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// Its name with those before it; empty for the whole request.
    path: String,
    value: Option<String>,
    inside: BTreeMap<String, Params>,
    /// It was read, so that it is known.
    is_known: Cell<bool>,
}

impl Params {
    /// The parameters of a form, `application/x-www-form-urlencoded`.
    ///
    /// # Errors
    /// Its encoding or a name is malformed, it has too many, or one is given twice.
    pub fn parse(form: &[u8]) -> Result<Self, Error> {
        let form = std::str::from_utf8(form).ok().and_then(|form| parameters(form).ok());
        Self::from_pairs(form.ok_or_else(malformed_encoding)?)
    }

    /// The parameters of pairs.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        let mut root = Self::default();
        let mut nodes = 0;
        for (count, (name, value)) in pairs.into_iter().enumerate() {
            if count >= MAX_PARAMETERS {
                let text = format!("The request has more than {MAX_PARAMETERS} parameters");
                return Err(Error::new("InvalidQueryParameter", text));
            }
            nodes += root.insert(name.as_ref(), value.as_ref())?;
            if nodes > MAX_NODES {
                let text = format!("The names of parameters have more than {MAX_NODES} parts");
                return Err(Error::new("InvalidQueryParameter", text));
            }
        }
        Ok(root)
    }

    /// Puts in a value; returns how many nodes are new.
    fn insert(&mut self, name: &str, value: &str) -> Result<usize, Error> {
        let malformed = || {
            let name: String = name.chars().take(MAX_NAME).collect();
            Error::new("InvalidQueryParameter", format!("The parameter {name} is malformed"))
        };
        let mut parts = name.split('.');
        if name.len() > MAX_NAME || parts.clone().count() > MAX_DEPTH || parts.any(str::is_empty) {
            return Err(malformed());
        }
        let mut place = self;
        let mut new = 0;
        for part in name.split('.') {
            let path = if place.path.is_empty() {
                part.to_owned()
            } else {
                format!("{}.{part}", place.path)
            };
            place = place.inside.entry(part.to_owned()).or_insert_with(|| {
                new += 1;
                Self { path, ..Self::default() }
            });
        }
        if place.value.is_some() {
            return Err(malformed());
        }
        place.value = Some(value.to_owned());
        Ok(new)
    }

    /// Its name with those before it, as in `Filter.1`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of a parameter below it.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value; `None` if it is absent or empty.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.is_known.set(true);
        self.value.as_deref().filter(|value| !value.is_empty())
    }

    /// The structure or list below a name, if any parameter of it is there and not empty.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Self> {
        let node = self.inside.get(name)?;
        if node.is_absent() {
            node.ignore();
            return None;
        }
        Some(node)
    }

    /// As [`Self::node`], also where all parameters of it are empty.
    #[must_use]
    pub fn node_or_empty(&self, name: &str) -> Option<&Self> {
        self.inside.get(name)
    }

    /// The value of a parameter; `None` if it is absent or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.inside.get(name)?.value()
    }

    /// The value of a parameter, an empty one too.
    #[must_use]
    pub fn text_or_empty(&self, name: &str) -> Option<&str> {
        let node = self.inside.get(name)?;
        node.is_known.set(true);
        node.value.as_deref()
    }

    /// The value of a parameter that is required.
    ///
    /// # Errors
    /// It is absent.
    pub fn required(&self, name: &str) -> Result<&str, Error> {
        self.text(name).ok_or_else(|| Error::missing(&self.path_of(name)))
    }

    /// A parameter that is `true` or `false`, in any case.
    ///
    /// # Errors
    /// It is another word.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.text(name)
            .map(|text| match text.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "Value ({text}) for parameter {} is invalid. Must be true or false.",
                    self.path_of(name)
                ))),
            })
            .transpose()
    }

    /// A parameter that is a whole number.
    ///
    /// # Errors
    /// It is no number, or out of the bounds of the type.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::invalid(format!(
                        "Value ({text}) for parameter {} is invalid. Must be an integer.",
                        self.path_of(name)
                    ))
                })
            })
            .transpose()
    }

    /// What is below the name of a list. The name itself has no value: one that is ignored would make a request that
    /// names some objects one for all.
    fn list_node(&self, name: &str) -> Result<Option<&Self>, Error> {
        let Some(list) = self.inside.get(name) else { return Ok(None) };
        if list.value().is_some() {
            return Err(unknown(&list.path));
        }
        Ok(Some(list))
    }

    /// The items of a list, in the order of their numbers; those that are empty are left out.
    ///
    /// # Errors
    /// One has no number, or the list itself has a value.
    pub fn list(&self, name: &str) -> Result<Vec<&Self>, Error> {
        let Some(list) = self.list_node(name)? else { return Ok(Vec::new()) };
        let mut items = Vec::new();
        for (number, item) in &list.inside {
            let number: u32 = number.parse().map_err(|_| unknown(&item.path))?;
            if item.is_absent() {
                item.ignore();
            } else {
                items.push((number, item));
            }
        }
        items.sort_by_key(|(number, _)| *number);
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    /// The texts of a list, as in `GroupId.1`.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn texts(&self, name: &str) -> Result<Vec<&str>, Error> {
        Ok(self.list(name)?.into_iter().filter_map(Self::value).collect())
    }

    /// As [`Self::texts`], empty ones too.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn texts_or_empty(&self, name: &str) -> Result<Vec<&str>, Error> {
        let Some(list) = self.list_node(name)? else { return Ok(Vec::new()) };
        let mut texts = Vec::new();
        for (number, item) in &list.inside {
            let number: u32 = number.parse().map_err(|_| unknown(&item.path))?;
            item.is_known.set(true);
            texts.extend(item.value.as_deref().map(|text| (number, text)));
        }
        texts.sort_by_key(|(number, _)| *number);
        Ok(texts.into_iter().map(|(_, text)| text).collect())
    }

    /// Whether a parameter of this name, or below it, is there and not empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.inside.get(name).is_some_and(|node| !node.is_absent())
    }

    /// A digest of all parameters except some at the top, in hexadecimal digits: the same for requests that ask for
    /// the same, whatever the order of their parameters and the empty ones among them.
    #[must_use]
    pub fn digest(&self, except: &[&str]) -> String {
        let mut hash = Sha256::new();
        for (_, node) in self.inside.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
            node.add_to(&mut hash);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn add_to(&self, hash: &mut Sha256) {
        if let Some(value) = self.value.as_deref().filter(|value| !value.is_empty()) {
            // With their lengths, so that no two forms give the same bytes.
            for text in [&*self.path, value] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        }
        self.inside.values().for_each(|node| node.add_to(hash));
    }

    /// Accepts all that is below a name, whatever it is.
    pub fn accept(&self, name: &str) {
        if let Some(node) = self.inside.get(name) {
            node.ignore();
        }
    }

    /// Refuses what was not read: EC2 knows no such parameter.
    ///
    /// # Errors
    /// There is such a parameter.
    pub fn finish(&self) -> Result<(), Error> {
        if self.value.is_some() && !self.is_known.get() {
            return Err(unknown(&self.path));
        }
        self.inside.values().try_for_each(Self::finish)
    }

    fn is_absent(&self) -> bool {
        self.value.as_deref().unwrap_or_default().is_empty()
            && self.inside.values().all(Self::is_absent)
    }

    fn ignore(&self) {
        self.is_known.set(true);
        self.inside.values().for_each(Self::ignore);
    }
}

/// A form, or a query, that is not percent-encoded UTF-8.
#[must_use]
pub fn malformed_encoding() -> Error {
    Error::new("MalformedQueryString", "The query string is malformed.")
}

fn unknown(path: &str) -> Error {
    Error::new("UnknownParameter", format!("The parameter {path} is not recognized"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Params::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_paths_and_lists_are_in_the_order_of_numbers() {
        let form = params("A=x%20y&P.10.C=ten&P.2.C=two&P.2.D=&E=&L.1=a&L.2=&L.3=c");
        assert_eq!(form.text("A"), Some("x y"));
        assert_eq!(form.text("E"), None);
        let items = form.list("P").unwrap();
        let texts: Vec<_> = items.iter().map(|item| item.required("C").unwrap()).collect();
        assert_eq!(texts, ["two", "ten"]);
        assert_eq!(items[0].text("D"), None);
        assert_eq!(form.texts("L").unwrap(), ["a", "c"]);
        form.finish().unwrap();
    }

    #[test]
    fn what_nobody_reads_is_refused() {
        let form = params("A=1&B.1.C=2");
        assert_eq!(form.text("A"), Some("1"));
        let error = form.finish().unwrap_err();
        assert_eq!(error.to_string(), "UnknownParameter: The parameter B.1.C is not recognized");
        form.accept("B");
        form.finish().unwrap();
    }

    #[test]
    fn a_value_in_place_of_a_list_or_structure_is_refused() {
        let form = params("Tag=color&E=&S=x");
        let refused = "UnknownParameter: The parameter Tag is not recognized";
        for error in [form.list("Tag").map(drop), form.texts_or_empty("Tag").map(drop)] {
            assert_eq!(error.unwrap_err().to_string(), refused);
        }
        assert!(form.list("E").unwrap().is_empty());
        form.accept("Tag");
        assert_eq!(form.node("S").unwrap().text("Value"), None);
        assert_eq!(form.finish().unwrap_err().code, "UnknownParameter");
    }

    #[test]
    fn names_make_a_bounded_number_of_nodes() {
        let form = |nodes: usize| {
            let parameters = (1..=nodes / 5).map(|at| format!("L{at}.1.B.1.C=&"));
            Params::parse(parameters.collect::<String>().as_bytes())
        };
        form(MAX_NODES).unwrap();
        assert_eq!(form(MAX_NODES + 5).unwrap_err().code, "InvalidQueryParameter");
        assert!(Params::parse(b"A.1.B.1.C.D=1").is_ok());
        assert!(Params::parse(b"A.1.B.1.C.D.E=1").is_err());
    }

    #[test]
    fn the_digest_is_of_what_is_asked_for() {
        let digest = |text: &str| params(text).digest(&["Token"]);
        let one = digest("A=1&L.1=x&L.2=y&Token=1");
        assert_eq!(one.len(), 64);
        assert_eq!(one, digest("L.2=y&L.1=x&A=1&E=&Token=2"));
        for other in ["A=1&L.1=y&L.2=x", "A=1&L.1=x", "A=1L.1=x&L.2=y", "B=1&L.1=x&L.2=y"] {
            assert_ne!(one, digest(other), "{other}");
        }
    }

    #[test]
    fn bad_forms_are_refused() {
        let error = Params::parse(b"A=%zz").unwrap_err();
        assert_eq!(error.code, "MalformedQueryString");
        for text in ["A=1&A=2", "A..B=1", ".A=1", "A.=1", "a.b.c.d.e.f.g.h.i=1", "=1"] {
            let error = Params::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, "InvalidQueryParameter", "{text}");
        }
        let error = params("L.x=1").list("L").unwrap_err();
        assert_eq!(error.code, "UnknownParameter");
        assert_eq!(params("N=x").number::<u16>("N").unwrap_err().code, "InvalidParameterValue");
        assert_eq!(params("N=TRUE").flag("N").unwrap(), Some(true));
        assert!(params("N=1").flag("N").is_err());
        assert_eq!(
            params("A=").required("A").unwrap_err().to_string(),
            "MissingParameter: The request must contain the parameter A"
        );
    }
}
