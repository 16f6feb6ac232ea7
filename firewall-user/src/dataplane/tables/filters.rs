//! The pool of filters. A filter is written once, under a number that no interface has, and interfaces for
//! which the same is compiled share it. Its number is free again once no active word has it.
//!
//! The map `FILTERS` has a number before its tables exist and until they are gone, so a process that is killed
//! at any moment leaves nothing but numbers that no active word has; the next command frees those first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use firewall_ebpf::abi::filter::{Filter, MAX_FILTERS};
use firewall_ebpf::abi::policy::Active;

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::pins::Pins;
use crate::dataplane::sys::entries;
use crate::dataplane::tables::bank::{self, Bank, Place, Table};
use crate::dataplane::tables::maps::Maps;
use crate::dataplane::tables::probe::{Program, probe};
use crate::policy::Probe;
use crate::policy::filter::CompiledFilter;

/// Filters whose tables are taken out of the outer maps at once, each in threads of its own.
const CLEARED_AT_ONCE: usize = 8;

/// A filter that is in the kernel, but that no interface has yet.
#[derive(Debug)]
#[must_use = "a filter does nothing until an active word has its number"]
pub struct NewFilter {
    number: u16,
    word: Filter,
    tables: Bank,
}

impl NewFilter {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// The word that identifies its contents.
    #[must_use]
    pub const fn word(&self) -> Filter {
        self.word
    }
}

impl Maps {
    /// The number of the filter with this word that an interface has, and whose tables are there.
    ///
    /// # Errors
    /// A map or a table cannot be read.
    pub fn find_filter(&self, filter: Filter) -> Result<Option<u16>> {
        let used = self.filters()?;
        for number in self.named_filters()? {
            if used.get(&number) == Some(&filter)
                && Bank::open(&self.pins, Place::Filter(number))?.is_some()
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Writes a filter under a free number. `progress` is called with the size of every batch of entries.
    ///
    /// # Errors
    /// The kernel refuses a table or an entry.
    pub fn create_filter(
        &self,
        filter: &CompiledFilter,
        progress: &mut dyn FnMut(usize),
    ) -> Result<NewFilter> {
        let used = self.filters()?;
        let mut numbers = (0..MAX_FILTERS).filter_map(|number| u16::try_from(number).ok());
        // Two for each interface: never all of them, if unused ones are freed first.
        let number = numbers.find(|number| !used.contains_key(number)).ok_or_else(|| {
            DataplaneError::new(
                format!("filters: all {MAX_FILTERS} are in use"),
                "`secgroup reconcile` frees those that no interface has",
            )
        })?;
        let word = filter.word();
        self.set_filter(number, word)?;
        let place = Place::Filter(number);
        let (tables, _) = Bank::create(&self.pins, place, &filter.tables, progress)?;
        Ok(NewFilter { number, word, tables })
    }

    /// Shows filters to the kernel programs, so that they can be probed and used.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn publish_filters<'a>(
        &self,
        new: impl Iterator<Item = &'a NewFilter> + Clone,
    ) -> Result<()> {
        self.set_outer_maps(new.map(|one| (one.tables.index(), &one.tables)))
    }

    /// The kernel program's results of probes of a filter that is published: the word of the entry.
    ///
    /// # Errors
    /// The pinned programs cannot be run.
    pub fn probe_filter(&self, number: u16, probes: &[Probe]) -> Result<Vec<(Probe, Option<u32>)>> {
        let word = Active::default().with_filter(Some(number));
        probe(&self.pins, Program::Filter, word.0, probes)
    }

    /// Frees the filters that no active word has, with what killed processes have left of some. No packet may
    /// use one of them: neither a program that runs since before the words were changed.
    ///
    /// # Errors
    /// A map cannot be written, or a pin cannot be removed.
    pub fn free_filters(&self) -> Result<()> {
        let named = self.named_filters()?;
        let mut unused: BTreeSet<u16> = self.filters()?.into_keys().collect();
        unused.extend(pinned(&self.pins)?);
        let unused: Vec<u16> = unused.difference(&named).copied().collect();
        for some in unused.chunks(CLEARED_AT_ONCE) {
            let outer = some.iter().flat_map(|number| {
                Table::ALL.map(|table| (table.name(), Place::Filter(*number).index()))
            });
            self.clear_outer(&outer.collect::<Vec<_>>())?;
            for number in some {
                bank::remove(&self.pins, Place::Filter(*number))?;
                self.set_filter(*number, Filter::default())?;
            }
        }
        Ok(())
    }

    /// Whether there is any filter, or anything is blocked on the whole host.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn has_filters_or_blocks(&self) -> Result<bool> {
        Ok(self.blocks_any()? || !self.filters()?.is_empty())
    }

    /// How many filters interfaces have, and their memory in bytes; `None` before Linux 6.4.
    ///
    /// # Errors
    /// A map or a table cannot be read.
    pub fn filter_usage(&self) -> Result<(usize, Option<u64>)> {
        let numbers = self.named_filters()?;
        let mut memory = Some(0);
        for number in &numbers {
            if let Some(tables) = Bank::open(&self.pins, Place::Filter(*number))? {
                memory = memory.zip(tables.memory()).map(|(sum, more)| sum + more);
            }
        }
        Ok((numbers.len(), memory))
    }

    /// The numbers that are in use, with their words.
    fn filters(&self) -> Result<BTreeMap<u16, Filter>> {
        let all = entries::dump::<u32, u64>(self.fd(FILTERS)).context("read map FILTERS")?;
        let used = all.into_iter().map(|(number, word)| (number, Filter(word)));
        let used = used.filter(|(_, filter)| *filter != Filter::default());
        Ok(used.filter_map(|(number, word)| Some((u16::try_from(number).ok()?, word))).collect())
    }

    /// The numbers that active words have.
    fn named_filters(&self) -> Result<BTreeSet<u16>> {
        let all = entries::dump::<u32, u64>(self.fd("ACTIVE")).context("read map ACTIVE")?;
        let words = all.into_iter().map(|(_, word)| Active(word));
        Ok(words.filter(|word| word.is_present()).filter_map(Active::filter).collect())
    }

    fn set_filter(&self, number: u16, filter: Filter) -> Result<()> {
        entries::put(self.fd(FILTERS), &u32::from(number), &filter.0).context("write map FILTERS")
    }
}

/// The name of the map of their words.
const FILTERS: &str = "FILTERS";

/// The filters that have pinned tables.
fn pinned(pins: &Pins) -> Result<BTreeSet<u16>> {
    let dir = pins.tables_dir();
    let entries = fs::read_dir(&dir).context(format_args!("list {}", dir.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| Pins::filter_of(&name)).collect())
}
