//! Pages of a long answer: `MaxResults` and `NextToken`. A token names the last item of a page, so that items that
//! are created or deleted meanwhile neither repeat others nor hide them.

use std::ops::RangeInclusive;

use crate::{Error, Params};

/// What a token begins with.
const TOKEN: &str = "sg1-";

/// The page that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The most items; `None`: all.
    max: Option<usize>,
    /// The key of the last item of the page before.
    after: Option<String>,
}

impl Page {
    /// The parameters `MaxResults` and `NextToken`.
    ///
    /// # Errors
    /// The number is not in `bounds`, or the token is not one of ours.
    pub fn parse(params: &Params, bounds: RangeInclusive<usize>) -> Result<Self, Error> {
        let max = params.number::<i64>("MaxResults")?;
        let max = max.map(|max| {
            let number = usize::try_from(max).ok().filter(|max| bounds.contains(max));
            number.ok_or_else(|| {
                let (least, most) = (bounds.start(), bounds.end());
                let limit = if usize::try_from(max).is_ok_and(|max| max > *most) {
                    format!("less than {most}")
                } else {
                    format!("greater than {least}")
                };
                Error::invalid(format!(
                    "Value ( {max} ) for parameter maxResults is invalid. Expecting a value {limit}."
                ))
            })
        });
        let after = params.text("NextToken").map(|token| {
            key_of(token).ok_or_else(|| {
                Error::new("InvalidNextToken", format!("The token '{token}' is not valid"))
            })
        });
        Ok(Self { max: max.transpose()?, after: after.transpose()? })
    }

    /// The page with this number of items at most, also if the request gives none.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { max: Some(self.max.map_or(most, |max| max.min(most))), ..self }
    }

    /// Whether the request gives a number of results.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.max.is_some()
    }

    /// The items of the page and the token of the next one. `items` are in the order of their keys, each of
    /// which is unique.
    pub fn cut<T>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            items.retain(|item| key(item) > *after);
        }
        let Some(max) = self.max.filter(|max| *max < items.len()) else { return (items, None) };
        items.truncate(max);
        let token = items.last().map(|last| token_of(&key(last)));
        (items, token)
    }
}

fn token_of(key: &str) -> String {
    let digits: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{TOKEN}{digits}")
}

fn key_of(token: &str) -> Option<String> {
    let digits = token.strip_prefix(TOKEN)?.as_bytes();
    if digits.is_empty() || digits.len() % 2 != 0 {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(form: &str) -> Result<Page, Error> {
        Page::parse(&Params::parse(form.as_bytes()).unwrap(), 5..=1000)
    }

    #[test]
    fn pages_cover_all_items_once() {
        let items: Vec<String> = (0..23).map(|number| format!("sg-{number:02}")).collect();
        let (mut seen, mut form) = (Vec::new(), "MaxResults=5".to_owned());
        loop {
            let (some, next) = page(&form).unwrap().cut(items.clone(), Clone::clone);
            seen.extend(some);
            let Some(next) = next else { break };
            form = format!("MaxResults=5&NextToken={next}");
        }
        assert_eq!(seen, items);
        // The last page is full: there is no token for an empty one.
        let (some, next) = page("MaxResults=23").unwrap().cut(items, Clone::clone);
        assert_eq!((some.len(), next), (23, None));
    }

    #[test]
    fn numbers_out_of_bounds_and_foreign_tokens_are_refused() {
        let error = page("MaxResults=1").unwrap_err();
        assert_eq!(
            error.message,
            "Value ( 1 ) for parameter maxResults is invalid. Expecting a value greater than 5."
        );
        assert!(page("MaxResults=1001").is_err() && page("MaxResults=x").is_err());
        for token in ["x", "sg1-", "sg1-4", "sg1-zz", "sg1-ff"] {
            let error = page(&format!("NextToken={token}")).unwrap_err();
            assert_eq!(error.code, "InvalidNextToken", "{token}");
        }
    }
}
