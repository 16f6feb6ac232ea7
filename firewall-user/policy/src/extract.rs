//! Extraction of a policy from its interner.

use firewall_ebpf::abi::policy::{ANY_V4, ANY_V6, NO_CLASS};
use hashbrown::HashMap;

use crate::compiled::{CompiledClass, CompiledPolicy};
use crate::interner::{InternedPolicy, PolicyInterner};
use crate::number::{count, index};

impl PolicyInterner {
    /// A policy by itself, with the numbers that it would have in an interner of its own.
    #[must_use]
    pub fn extract(&self, policy: &InternedPolicy) -> CompiledPolicy {
        let mut extractor = Extractor::new(self);
        for (class, any) in policy.any().into_iter().enumerate() {
            extractor.tables.classes[class].lists = any.map(|list| extractor.list(list));
        }
        // A parent comes before its children, because an enclosing prefix comes before those within it.
        let v4 =
            policy.v4.prefixes.iter().map(|(prefix, class)| (*prefix, extractor.class(*class)));
        let prefixes_v4 = v4.collect();
        let v6 =
            policy.v6.prefixes.iter().map(|(prefix, class)| (*prefix, extractor.class(*class)));
        let prefixes_v6 = v6.collect();
        CompiledPolicy { prefixes_v4, prefixes_v6, ..extractor.tables }
    }
}

struct Extractor<'a> {
    interner: &'a PolicyInterner,
    tables: CompiledPolicy,
    /// The policy's own numbers of lists and classes, by those of the interner.
    lists: HashMap<u32, u32>,
    classes: Vec<u32>,
}

impl<'a> Extractor<'a> {
    fn new(interner: &'a PolicyInterner) -> Self {
        let mut classes = vec![NO_CLASS; interner.class_count()];
        [classes[0], classes[1]] = [ANY_V4, ANY_V6];
        Self { interner, tables: CompiledPolicy::deny_all(), lists: [(0, 0)].into(), classes }
    }

    fn list(&mut self, number: u32) -> u32 {
        *self.lists.entry(number).or_insert_with(|| {
            self.tables.lists.push(self.interner.list(number).to_vec());
            count(self.tables.lists.len() - 1)
        })
    }

    fn class(&mut self, number: u32) -> u32 {
        if self.classes[index(number)] == NO_CLASS {
            let CompiledClass { parent, lists } = self.interner.class(number);
            let lists = lists.map(|list| self.list(list));
            let class = CompiledClass { parent: self.classes[index(parent)], lists };
            self.classes[index(number)] = count(self.tables.classes.len());
            self.tables.classes.push(class);
        }
        self.classes[index(number)]
    }
}
