//! Events counted by interface. The number of evicted flows is computed from them.

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// What is counted by interface besides the reasons.
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

/// Counters reserved for the events of one interface.
pub const EVENT_SPACE: u32 = 8;

events! {
    /// A flow was proven but the proven tier was full; it stays in the new tier.
    Unpromoted = 0;
    /// A flow was created in the new tier.
    Opened = 1;
    /// A flow moved from the new tier to the proven one (nf_conntrack's ASSURED).
    Promoted = 2;
    /// An expired or closed flow was removed from the new tier, by a later packet of its key or by
    /// `sg_expire_v4` or `sg_expire_v6`.
    Removed = 3;
    /// A first fragment was stored.
    Fragmented = 4;
    /// A packet was counted as dropped and passed, because its interface is in audit mode.
    AuditPassed = 5;
    /// A TCP flow was proven but its source has as many as it may; it stays in the new tier.
    SourceLimited = 6;
}

/// Index of an event's counter.
#[must_use]
#[inline(always)]
pub const fn event_index(slot: u16, event: Event) -> u32 {
    slot as u32 * EVENT_SPACE + event as u32
}
