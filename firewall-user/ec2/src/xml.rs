//! Writes XML 1.0.

use std::fmt::{Display, Write as _};

/// An XML document, or a part of one, that is written from its beginning to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xml {
    text: String,
}

impl Xml {
    /// A part of a document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A document, with its declaration.
    #[must_use]
    pub fn document() -> Self {
        Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() }
    }

    /// The document's outermost element, with its namespace.
    pub fn root(&mut self, name: &str, namespace: &str, inside: impl FnOnce(&mut Self)) {
        let _ = write!(self.text, "<{name} xmlns=\"{namespace}\">");
        inside(self);
        self.close(name);
    }

    /// An element with elements.
    pub fn node(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.open(name);
        inside(self);
        self.close(name);
    }

    /// An element with text.
    pub fn text(&mut self, name: &str, text: impl Display) {
        self.open(name);
        let _ = write!(Escaped(&mut self.text), "{text}");
        self.close(name);
    }

    /// As [`Self::text`], where there is a text.
    pub fn option(&mut self, name: &str, text: Option<impl Display>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// A list: an element with one `item` for each of `items`; without any it is empty, so that clients read an
    /// empty list.
    pub fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.open(name);
        for item in items {
            self.node("item", |xml| write(xml, item));
        }
        self.close(name);
    }

    /// A list that has nothing.
    pub fn empty_list(&mut self, name: &str) {
        self.open(name);
        self.close(name);
    }

    /// A list of texts.
    pub fn texts<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        self.open(name);
        for item in items {
            self.text("item", item);
        }
        self.close(name);
    }

    /// Another part.
    pub fn append(&mut self, part: &Self) {
        self.text.push_str(&part.text);
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn open(&mut self, name: &str) {
        let _ = write!(self.text, "<{name}>");
    }

    fn close(&mut self, name: &str) {
        let _ = write!(self.text, "</{name}>");
    }
}

/// Writes text with the characters escaped that XML uses itself. A character that XML 1.0 cannot have at all
/// becomes U+FFFD.
struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // A parser would make a line feed of it.
                '\r' => self.0.push_str("&#13;"),
                '\t' | '\n' => self.0.push(character),
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.0.push('\u{fffd}'),
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut xml = Xml::new();
        xml.text("a", "<&>\"'\r\u{1}\u{7f}é");
        assert_eq!(xml.finish(), "<a>&lt;&amp;&gt;&quot;'&#13;\u{fffd}\u{7f}é</a>");
    }

    #[test]
    fn an_empty_list_is_an_empty_element() {
        let mut xml = Xml::new();
        xml.list("s", [1, 2], |xml, number| xml.text("n", number));
        xml.list("e", [0; 0], |xml, number| xml.text("n", number));
        xml.texts("t", ["x"]);
        xml.option("o", None::<u8>);
        assert_eq!(
            xml.finish(),
            "<s><item><n>1</n></item><item><n>2</n></item></s><e></e><t><item>x</item></t>"
        );
    }
}
