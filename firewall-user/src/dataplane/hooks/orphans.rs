//! Filters of clsact that outlived their pins. The kernel empties an array of programs once no process and no
//! pin refers to it, and without the slow path such a filter drops every packet but those of its fast path.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, MapInfo, MapType};
use aya::programs::{ProgramInfo, loaded_programs};

use crate::dataplane::error::Result;
use crate::dataplane::hooks::filters::{Filter, client, detach_from, index, known_filters};
use crate::dataplane::host::device::Device;
use crate::dataplane::pins::Place;
use crate::dataplane::sys::entries;

/// The programs of interfaces at clsact, as the kernel knows them.
const PROGRAMS: [&str; 2] = ["sg_tcx_rx", "sg_tcx_tx"];
/// The array of the slow path.
const SLOW_PATH: &str = "SLOW_TC";

/// Removes such filters from one direction of a device; `own` is the id of the program that is to stay.
pub(super) fn remove(device: &Device, place: Place, own: Option<u32>) -> Result<()> {
    let (client, at) = (client()?, index(device));
    for attempt in 0..ATTEMPTS {
        let mut is_done = true;
        for filter in known_filters(&client, at, place)? {
            match program(&filter).map(|program| has_no_slow_path(&program)) {
                Some(Some(true)) => detach_from(&client, at, place, &filter)?,
                Some(Some(false)) if filter.program != own => is_done = false,
                // Ours, of another owner, or it cannot be examined.
                _ => {}
            }
        }
        if is_done {
            break;
        }
        if attempt + 1 < ATTEMPTS {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// How often, and how long in between, a filter is examined: the kernel empties the array some time after its
/// last pin has gone. One of another instance stays filled.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a program of ours lost its slow path, so that [`remove`] removes its filter.
pub(super) fn is_orphan(program: u32) -> bool {
    let loaded = loaded_programs().flatten().find(|one| one.id() == program);
    loaded.filter(is_ours).is_some_and(|program| has_no_slow_path(&program) == Some(true))
}

/// The filter's program, if it is of this project.
fn program(filter: &Filter) -> Option<ProgramInfo> {
    let id = filter.program?;
    loaded_programs().flatten().find(|program| program.id() == id).filter(is_ours)
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
    // An empty one stays so: nobody can fill it without a pin.
    let mut indexes = 0..info.max_entries();
    let is_filled = indexes
        .any(|index| !matches!(entries::get::<u32, u32>(map.fd().as_fd(), &index), Ok(None)));
    Some(!is_filled)
}
