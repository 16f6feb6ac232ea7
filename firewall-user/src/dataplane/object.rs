//! The kernel object that is part of this binary: its maps, its programs, and loading it.

pub(in crate::dataplane) mod record_limits;
pub mod shapes;

use std::hash::{DefaultHasher, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::Map;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use crate::dataplane::error::{Context, DataplaneError, Result};
use crate::dataplane::object::shapes::{SHAPES, Sizes};
use crate::dataplane::pins::Pins;

/// The kernel object from `cargo xtask build`; empty if the library was built before it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/secgroup.bpf.o"));

/// The kernel object.
///
/// # Errors
/// This build has none.
pub(super) fn embedded() -> Result<&'static [u8]> {
    if OBJECT.is_empty() {
        return Err(DataplaneError::new(
            "load the kernel object: this build of secgroup has none",
            "run `cargo xtask build`, then use target/release/secgroup",
        ));
    }
    Ok(OBJECT)
}

/// Identifies the kernel object. Never zero.
///
/// # Errors
/// This build has none.
pub(super) fn object_digest() -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(embedded()?);
    Ok(hasher.finish().max(1))
}

/// A loader that uses the pinned maps, and creates and pins those that do not exist. The tables of an
/// interface are not among them.
pub(super) fn loader<'a>(pins: &Pins, sizes: &Sizes) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    // No program refers to the kernel's types.
    loader.btf(None);
    for shape in SHAPES {
        loader.map_pin_path(shape.object_name(), pins.map(shape.name));
        loader.map_max_entries(shape.object_name(), sizes.entries(shape.size));
    }
    loader
}

/// A program of the object, as its type.
///
/// # Errors
/// There is none of that name and type; the object is another build's.
pub fn program<'a, P>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = object.program_mut(name).ok_or_else(|| {
        DataplaneError::new(format!("kernel object: no program {name}"), "rebuild secgroup")
    })?;
    program.try_into().context(format_args!("kernel object: program {name}"))
}

/// The file descriptor of an array among the maps of an object.
///
/// # Errors
/// There is none of that name; the object is another build's.
pub(super) fn map_fd<'a>(object: &'a Ebpf, name: &str) -> Result<BorrowedFd<'a>> {
    match object.map(name) {
        Some(Map::Array(map) | Map::ArrayOfMaps(map) | Map::PerCpuArray(map)) => {
            Ok(map.fd().as_fd())
        }
        _ => Err(missing(name)),
    }
}

/// That the object has no such map.
pub(super) fn missing(name: &str) -> DataplaneError {
    DataplaneError::new(format!("kernel object: no map {name}"), "rebuild secgroup")
}
