//! Filters of clsact that outlived their pins. The kernel empties an array of programs once no process and no
//! pin refers to it, and without the slow path such a filter drops every packet but those of its fast path.

use std::os::fd::AsFd as _;

use aya::maps::{MapData, MapInfo, MapType};
use aya::programs::{ProgramInfo, loaded_programs};

use crate::dataplane::error::Result;
use crate::dataplane::hooks::clsact::{client, detach_from};
use crate::dataplane::hooks::filters::{Filter, known_filters, qdiscs};
use crate::dataplane::host::device::Device;
use crate::dataplane::host::netns;
use crate::dataplane::pins::Place;
use crate::dataplane::sys::entries;

/// The programs of interfaces at clsact, as the kernel knows them.
const PROGRAMS: [&str; 2] = ["sg_tcx_rx", "sg_tcx_tx"];
/// The array of the slow path.
const SLOW_PATH: &str = "SLOW_TC";

/// Removes such filters from one direction of a device.
pub(super) fn remove(device: &Device, place: Place) -> Result<()> {
    remove_at(super::filters::index(device), place)
}

/// Removes such filters from every device of this network namespace and of the named ones. What cannot be
/// entered, or is not there any more, is left out.
pub(super) fn remove_everywhere() {
    let here = || -> Result<()> {
        for (at, _) in qdiscs(&client()?)? {
            Place::CLSACT.into_iter().try_for_each(|place| remove_at(at, place))?;
        }
        Ok(())
    };
    let _ = here();
    for name in netns::names() {
        let _ = netns::within(Some(&name), here);
    }
}

fn remove_at(at: i32, place: Place) -> Result<()> {
    let client = client()?;
    let filters = known_filters(&client, at, place)?;
    let orphans = filters.iter().filter(|filter| is_orphan(filter));
    orphans.into_iter().try_for_each(|filter| detach_from(&client, at, place, filter))
}

/// Whether a filter is of this project and has no slow path. One whose program cannot be examined is not.
fn is_orphan(filter: &Filter) -> bool {
    let Some(id) = filter.program else { return false };
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    program.is_some_and(|program| is_ours(&program) && has_no_slow_path(&program) == Some(true))
}

fn is_ours(program: &ProgramInfo) -> bool {
    program.name_as_str().is_some_and(|name| PROGRAMS.contains(&name))
}

/// `None` if it is not known.
fn has_no_slow_path(program: &ProgramInfo) -> Option<bool> {
    let maps = program.map_ids().ok()??;
    let info = maps.into_iter().filter_map(|id| MapInfo::from_id(id).ok()).find(|map| {
        map.name_as_str() == Some(SLOW_PATH) && matches!(map.map_type(), Ok(MapType::ProgramArray))
    })?;
    let map = MapData::from_id(info.id()).ok()?;
    // It is empty for good: nobody can fill it without a pin.
    let mut indexes = 0..info.max_entries();
    let is_filled = indexes
        .any(|index| !matches!(entries::get::<u32, u32>(map.fd().as_fd(), &index), Ok(None)));
    Some(!is_filled)
}
