//! The packet counters, as `secgroup stats` prints them.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// A counter's name: device, direction, reason.
type Name = (String, String, String);

/// Reasons that the kernel's neighbour discovery counts at any time, in any test.
const BACKGROUND: [&str; 2] = ["arp", "neighbour-discovery"];

/// Packets by device (`NETNS/DEVICE` if attached with `--netns`), direction and reason; zeros left
/// out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    packets: BTreeMap<Name, u64>,
}

impl Counters {
    /// Counters from a list in a test.
    #[must_use]
    pub fn of(list: &[(&str, &str, &str, u64)]) -> Self {
        let packets = list
            .iter()
            .map(|&(device, direction, reason, packets)| {
                ((device.to_owned(), direction.to_owned(), reason.to_owned()), packets)
            })
            .collect();
        Self { packets }
    }

    /// Reads the output of `secgroup stats --output json`.
    #[must_use]
    pub fn from_json(stats: &Value) -> Self {
        let mut counters = Self::default();
        let list = |value: &Value, key: &str| -> Vec<Value> {
            value[key].as_array().unwrap_or_else(|| panic!("no {key} in {stats:#}")).clone()
        };
        let text = |value: &Value, key: &str| -> String {
            value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value:#}")).to_owned()
        };
        for interface in list(stats, "Interfaces") {
            let device = match interface["Netns"].as_str() {
                Some(netns) => format!("{netns}/{}", text(&interface, "Device")),
                None => text(&interface, "Device"),
            };
            for counter in list(&interface, "Counters") {
                let packets = counter["Packets"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("no Packets in {counter:#}"));
                let name = (device.clone(), text(&counter, "Direction"), text(&counter, "Reason"));
                if packets > 0 {
                    *counters.packets.entry(name).or_default() += packets;
                }
            }
        }
        counters
    }

    /// The differences to earlier counters; panics if a counter decreased.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let names = self.packets.keys().chain(earlier.packets.keys());
        let packets = names
            .map(|name| {
                let [now, then] = [self, earlier].map(|counters| counters.get(name));
                let increase = now.checked_sub(then).unwrap_or_else(|| {
                    panic!("counter {name:?} decreased from {then} to {now}");
                });
                (name.clone(), increase)
            })
            .filter(|(_, increase)| *increase > 0)
            .collect();
        Self { packets }
    }

    /// All except those of one reason.
    #[must_use]
    pub fn without(mut self, reason: &str) -> Self {
        self.packets.retain(|name, _| name.2 != reason);
        self
    }

    /// Those of one device.
    #[must_use]
    pub fn of_device(mut self, device: &str) -> Self {
        self.packets.retain(|name, _| name.0 == device);
        self
    }

    /// Packets of one counter.
    #[must_use]
    pub fn packets(&self, device: &str, direction: &str, reason: &str) -> u64 {
        self.get(&(device.to_owned(), direction.to_owned(), reason.to_owned()))
    }

    /// Whether these are exactly the counters of a list, apart from neighbour discovery that hosts
    /// send unprompted; it is compared only where the list names it.
    #[must_use]
    pub fn is_exactly(&self, expected: &[(&str, &str, &str, u64)]) -> bool {
        let expected = Self::of(expected);
        let named = |name: &Name| {
            expected.packets.contains_key(name) || !BACKGROUND.contains(&name.2.as_str())
        };
        let compared = self.packets.iter().filter(|(name, _)| named(name));
        compared.eq(expected.packets.iter().filter(|(_, packets)| **packets > 0))
    }

    fn get(&self, name: &Name) -> u64 {
        self.packets.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.packets.is_empty() {
            return writeln!(out, "  none");
        }
        for ((device, direction, reason), packets) in &self.packets {
            writeln!(out, "  {device} {direction} {reason}: {packets}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Counters;

    #[test]
    fn since_keeps_only_counters_that_increased() {
        let stats = |no_rule: u64, arp: u64| {
            Counters::from_json(&json!({"Interfaces": [{"Device": "eth0", "Counters": [
                {"Direction": "ingress", "Reason": "no-rule", "Packets": no_rule, "Bytes": 60},
                {"Direction": "ingress", "Reason": "arp", "Packets": arp, "Bytes": 60},
                {"Direction": "egress", "Reason": "established", "Packets": 5, "Bytes": 60},
            ]}]}))
        };
        let increased = stats(9, 2).since(&stats(7, 1));
        assert!(increased.is_exactly(&[("eth0", "ingress", "no-rule", 2)]), "{increased}");
        assert!(!increased.is_exactly(&[("eth0", "ingress", "no-rule", 1)]));
        assert!(!increased.is_exactly(&[]));
        let with_arp = [("eth0", "ingress", "no-rule", 2), ("eth0", "ingress", "arp", 2)];
        assert!(!increased.is_exactly(&with_arp), "ARP is compared if the list names it");
        assert!(stats(7, 3).since(&stats(7, 1)).is_exactly(&[]), "ARP is ignored otherwise");
    }

    #[test]
    #[should_panic(expected = "decreased")]
    fn since_panics_if_a_counter_decreased() {
        let before = Counters::of(&[("eth0", "ingress", "no-rule", 2)]);
        let _ = Counters::default().since(&before);
    }
}
