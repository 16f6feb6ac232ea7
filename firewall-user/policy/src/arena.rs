//! Lists of ranges as words of [`Page`]s.

use firewall_ebpf::abi::policy::{LEAF, List, PAGE, Page, Range};

use crate::number::{count, index};

/// Pages from some page on, filled with one list after another.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    /// The number of the first of `pages`.
    pub first: u32,
    /// The lowest free word, counted from word 0 of page 0.
    pub next: u32,
    /// The pages that hold something new.
    pub pages: Vec<Page>,
}

impl Arena {
    /// Continues at a free word. `page` is what its page holds before that word.
    #[must_use]
    pub fn resume(next: u32, page: Page) -> Self {
        Self { first: next / PAGE, next, pages: vec![page] }
    }

    /// Places a list after the last one, in the layout of [`Page`].
    pub fn place(&mut self, list: &[Range]) -> List {
        let len = count(list.len());
        match *list {
            [] => List::EMPTY,
            [Range { low, high, rule }] => List { len, at: low, high, rule },
            _ if len <= LEAF => List { len, at: self.leaf(list), high: 0, rule: 0 },
            _ => List { len, at: self.long(list), high: 0, rule: 0 },
        }
    }

    fn leaf(&mut self, list: &[Range]) -> u32 {
        let words = list.iter().map(|range| range.low);
        let words = words.chain(list.iter().map(|range| range.high));
        let words: Vec<u32> = words.chain(list.iter().map(|range| range.rule)).collect();
        self.write(&words)
    }

    fn long(&mut self, list: &[Range]) -> u32 {
        let leaves = list.chunks(index(LEAF));
        // The index comes first, so that the leaves can follow one another.
        let words: Vec<u32> = [0].into_iter().chain(leaves.clone().map(|l| l[0].low)).collect();
        let at = self.write(&words);
        self.next = self.next.next_multiple_of(PAGE);
        let first_leaf = self.next / PAGE;
        for leaf in leaves {
            self.next = self.next.next_multiple_of(PAGE);
            self.leaf(leaf);
        }
        self.put(at, first_leaf);
        at
    }

    /// Writes words that fit into one page, all into the same one.
    fn write(&mut self, words: &[u32]) -> u32 {
        let len = count(words.len());
        if self.next % PAGE + len > PAGE {
            self.next = self.next.next_multiple_of(PAGE);
        }
        let at = self.next;
        for (offset, word) in (0..).zip(words) {
            self.put(at + offset, *word);
        }
        self.next += len;
        at
    }

    fn put(&mut self, at: u32, word: u32) {
        let page = index(at / PAGE - self.first);
        if self.pages.len() <= page {
            self.pages.resize(page + 1, [0; PAGE as usize]);
        }
        self.pages[page][index(at % PAGE)] = word;
    }
}
