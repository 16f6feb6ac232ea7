//! The store whose policies an instance enforces, as it is recorded beside the maps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use aya::maps::MapType;

use crate::dataplane::object::shapes::{Shape, Size};

/// A store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Its file, as it was named when the instance was created; for messages only.
    pub path: PathBuf,
}

/// The length of a store's id.
const ID: usize = 32;

/// The id, then the path, then zeros. Zeros alone: nothing is recorded yet.
pub(in crate::dataplane) type Record = [u8; 512];

/// The map of the record; the kernel program does not use it.
pub(super) const STORE: Shape = Shape::new::<u32, Record>("STORE", MapType::Array, Size::Fixed(1));

impl Owner {
    pub(super) fn record(&self) -> Record {
        let mut record = [0; size_of::<Record>()];
        let bytes = self.id.as_bytes().iter().chain(self.path.as_os_str().as_bytes());
        record.iter_mut().zip(bytes).for_each(|(at, byte)| *at = *byte);
        record
    }

    pub(super) fn of(record: &Record) -> Option<Self> {
        let length = record.iter().position(|byte| *byte == 0).unwrap_or(record.len());
        let (id, path) = record[..length].split_at_checked(ID)?;
        let id = str::from_utf8(id).ok()?.to_owned();
        Some(Self { id, path: OsStr::from_bytes(path).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_id_and_as_much_of_the_path_as_fits() {
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        for path in ["/var/lib/secgroup/secgroup.db", ""] {
            let owner = Owner { id: id.clone(), path: path.into() };
            assert_eq!(Owner::of(&owner.record()), Some(owner));
        }
        let long = Owner { id: id.clone(), path: "/x".repeat(500).into() };
        let read = Owner::of(&long.record()).unwrap();
        assert_eq!((read.id, read.path.as_os_str().len()), (id, size_of::<Record>() - ID));
        assert_eq!(Owner::of(&[0; size_of::<Record>()]), None);
    }
}
