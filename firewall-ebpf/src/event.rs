//! What happens to flows, counted by interface: from these come the numbers of what was evicted.

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// Something that happened to a flow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Event {
            $($(#[$doc])* $name = $number,)*
        }

        impl Event {
            /// Every event, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        const _: () = { $(assert!($number < EVENT_SPACE);)* };
    };
}

/// The space that counters reserve for events.
pub const EVENT_SPACE: u32 = 8;

events! {
    /// It was proven but found the proven tier full; it stays in the new tier.
    Unpromoted = 0;
    /// It began, in the new tier.
    Opened = 1;
    /// It went from the new tier to the proven one.
    Promoted = 2;
    /// It was removed from the new tier, dead, by a packet that came later.
    Removed = 3;
    /// A first fragment was remembered.
    Fragmented = 4;
    /// Not of a flow: a packet was counted as dropped and passed, on an interface in audit.
    Spared = 5;
}

/// Index of an event's counter.
#[must_use]
#[inline(always)]
pub const fn event_index(slot: u16, event: Event) -> u32 {
    slot as u32 * EVENT_SPACE + event as u32
}
