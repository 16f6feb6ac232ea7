//! This host as an instance of EC2.

use std::fs;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// What is hashed with the machine's id, which itself is not shown to others (machine-id(5)).
const PURPOSE: &[u8] = b"secgroup instance id";

/// The id of this host: `i-` and 17 hexadecimal digits, from `/etc/machine-id`; of zeros where there is none.
#[must_use]
pub fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let Ok(machine) = fs::read("/etc/machine-id") else { return of_digits(&[0; 8]) };
        let mut hash = Sha256::new();
        hash.update(PURPOSE);
        hash.update(machine.trim_ascii());
        of_digits(&hash.finalize()[..8])
    })
}

/// The name of this host; empty where it cannot be read.
#[must_use]
pub fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn of_digits(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("i-0{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_well_formed_and_stays() {
        let id = id();
        assert_eq!((id.len(), &id[..3]), (19, "i-0"));
        assert!(id[2..].bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(super::id(), id);
    }
}
