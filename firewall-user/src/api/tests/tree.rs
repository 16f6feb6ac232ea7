//! Answers as trees of elements.

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Tree {
    pub(in crate::api) name: String,
    pub(in crate::api) text: String,
    pub(in crate::api) inside: Vec<Tree>,
}

impl Tree {
    /// The outermost element of an answer. The text of an element is only unescaped where that matters here.
    pub(in crate::api) fn parse(body: &str) -> Self {
        let mut stack = vec![Self::default()];
        let mut rest = &body[body.find("?>").map_or(0, |at| at + 2)..];
        while let Some(open) = rest.find('<') {
            let close = open + rest[open..].find('>').expect("the end of a tag");
            let tag = &rest[open + 1..close];
            if let Some(name) = tag.strip_prefix('/') {
                let mut done = stack.pop().expect("an open element");
                assert_eq!(done.name, name, "{body}");
                if done.inside.is_empty() {
                    done.text = rest[..open]
                        .replace("&quot;", "\"")
                        .replace("&lt;", "<")
                        .replace("&amp;", "&");
                }
                stack.last_mut().expect("an outer one").inside.push(done);
            } else {
                let name = tag.split(' ').next().expect("a name").to_owned();
                stack.push(Self { name, ..Self::default() });
            }
            rest = &rest[close + 1..];
        }
        let [root] = &mut stack[..] else { panic!("open elements in {body}") };
        root.inside.pop().expect("an element")
    }

    /// The element with this name directly within it.
    pub(in crate::api) fn get(&self, name: &str) -> Option<&Self> {
        self.inside.iter().find(|one| one.name == name)
    }

    /// The text of that element, empty if there is none.
    pub(in crate::api) fn text_of(&self, name: &str) -> &str {
        self.get(name).map_or("", |one| &one.text)
    }

    /// The items of the list with this name.
    pub(in crate::api) fn items(&self, name: &str) -> &[Self] {
        &self.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).inside
    }

    /// The names of the elements directly within it.
    pub(in crate::api) fn names(&self) -> Vec<&str> {
        self.inside.iter().map(|one| one.name.as_str()).collect()
    }
}
