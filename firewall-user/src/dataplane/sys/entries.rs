//! Entries of maps, one or many at a time. aya has no batch operations, and its typed maps do not
//! give access to their file descriptors.

use std::io;
use std::os::fd::BorrowedFd;

use aya::Pod;

use super::{address, bpf, raw};

// include/uapi/linux/bpf.h. Batches: Linux 5.6, and for tries 5.14.
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

/// Flag of an update: only if the key does not exist.
const BPF_NOEXIST: u64 = 1;

/// Entries of a batch; progress is reported after each.
const CHUNK: usize = 4096;

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// One entry, if it exists. Not for per-CPU maps.
pub(in crate::dataplane) fn get<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::uninit();
    let mut attr = ElemAttr {
        map_fd: raw(map),
        pad: 0,
        key: address(std::ptr::from_ref(key)),
        value: address(value.as_mut_ptr()),
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        // SAFETY: the kernel filled a value of V's size (checked when the map was opened, or created
        // so), and any bytes are a valid one (`Pod`).
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one entry.
pub(in crate::dataplane) fn put<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let mut attr = ElemAttr {
        map_fd: raw(map),
        pad: 0,
        key: address(std::ptr::from_ref(key)),
        value: address(std::ptr::from_ref(value)),
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Writes one entry unless its key exists; returns whether it was written.
pub(in crate::dataplane) fn insert<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<bool> {
    let (key, value) = (address(std::ptr::from_ref(key)), address(std::ptr::from_ref(value)));
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key, value, flags: BPF_NOEXIST };
    match bpf(BPF_MAP_UPDATE_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes entries, in batches; `progress` is called with the size of each.
pub(in crate::dataplane) fn put_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    entries: impl IntoIterator<Item = (K, V)>,
    progress: &mut dyn FnMut(usize),
) -> io::Result<()> {
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let (keys, values): (Vec<K>, Vec<V>) = entries.by_ref().take(CHUNK).unzip();
        batch(BPF_MAP_UPDATE_BATCH, map, &keys, address(values.as_ptr()))?;
        progress(keys.len());
    }
    Ok(())
}

/// Removes entries, in batches; one that does not exist is no error.
pub(in crate::dataplane) fn remove_all<K: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    progress: &mut dyn FnMut(usize),
) -> io::Result<()> {
    for mut keys in keys.chunks(CHUNK) {
        while !keys.is_empty() {
            let done = match batch(BPF_MAP_DELETE_BATCH, map, keys, 0) {
                Ok(()) => keys.len(),
                Err(Stopped { error, done }) if error.raw_os_error() == Some(libc::ENOENT) => {
                    (done + 1).min(keys.len())
                }
                Err(Stopped { error, .. }) => return Err(error),
            };
            progress(done);
            keys = &keys[done..];
        }
    }
    Ok(())
}

/// A batch that was not completed.
struct Stopped {
    error: io::Error,
    /// The number of entries before the one that failed.
    done: usize,
}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        stopped.error
    }
}

fn batch<K>(
    command: libc::c_int,
    map: BorrowedFd<'_>,
    keys: &[K],
    values: u64,
) -> Result<(), Stopped> {
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: address(keys.as_ptr()),
        values,
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    let done = bpf(command, &mut attr);
    done.map(drop)
        .map_err(|error| Stopped { error, done: usize::try_from(attr.count).unwrap_or(0) })
}

/// Every entry of a hash map (LRU or not). Reads bucket by bucket, so it ends even on a map that
/// changes all the time; an entry that moves meanwhile may be missed or returned twice.
pub(in crate::dataplane) fn dump<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut at = None;
    loop {
        let Batch { entries: mut read, next } = read_batch(map, at)?;
        entries.append(&mut read);
        match next {
            Some(next) => at = Some(next),
            None => return Ok(entries),
        }
    }
}

/// As [`dump`], but begins at a bucket and stops after the batch that reaches `limit` entries. After the last
/// bucket it goes on with the first, up to where it began. The kernel remembers nothing between calls: a
/// position is the number of a bucket, and stays valid whatever is removed. `from` may be any number.
pub(in crate::dataplane) fn dump_from<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    from: u32,
    limit: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut entries = Vec::new();
    let mut at = Some(from);
    let mut has_wrapped = false;
    loop {
        let Batch { entries: mut read, next } = read_batch(map, at)?;
        entries.append(&mut read);
        let is_done = |next: u32| has_wrapped && next >= from;
        match next {
            _ if entries.len() >= limit => return Ok(entries),
            Some(next) if is_done(next) => return Ok(entries),
            Some(next) => at = Some(next),
            None if has_wrapped || from == 0 => return Ok(entries),
            None => {
                has_wrapped = true;
                at = None;
            }
        }
    }
}

/// Entries of one or more whole buckets.
struct Batch<K, V> {
    entries: Vec<(K, V)>,
    /// The bucket after them; `None`: there is none.
    next: Option<u32>,
}

/// Reads buckets, from one of this number on.
fn read_batch<K: Pod, V: Pod>(map: BorrowedFd<'_>, at: Option<u32>) -> io::Result<Batch<K, V>> {
    let mut chunk = CHUNK;
    loop {
        let mut keys: Vec<K> = Vec::with_capacity(chunk);
        let mut values: Vec<V> = Vec::with_capacity(chunk);
        let mut next = 0_u32;
        let mut attr = BatchAttr {
            in_batch: at.as_ref().map_or(0, |at| address(at)),
            out_batch: address(&raw mut next),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: u32::try_from(chunk).unwrap_or(u32::MAX),
            map_fd: raw(map),
            elem_flags: 0,
            flags: 0,
        };
        let is_last = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            // No bucket after these, or none of this number.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than a chunk.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                chunk *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = usize::try_from(attr.count).unwrap_or(0).min(chunk);
        // SAFETY: the kernel filled `count` keys and values, of K's and V's sizes (checked when the
        // map was opened), and any bytes are valid ones (`Pod`).
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        // Volatile: the compiler does not see that the kernel wrote it.
        // SAFETY: a local variable.
        let next = unsafe { (&raw const next).read_volatile() };
        let entries = keys.into_iter().zip(values).collect();
        return Ok(Batch { entries, next: (!is_last).then_some(next) });
    }
}

/// Removes one entry; returns whether it existed.
pub(in crate::dataplane) fn remove<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let key = std::ptr::from_ref(key);
    let mut attr = ElemAttr { map_fd: raw(map), pad: 0, key: address(key), value: 0, flags: 0 };
    match bpf(BPF_MAP_DELETE_ELEM, &mut attr) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The values of `count` entries of a per-CPU array from `first` on: those of one entry, a value for each of the
/// possible `cpus`, after those of the one before. `V` has whole words.
pub(in crate::dataplane) fn per_cpu<V: Pod>(
    map: BorrowedFd<'_>,
    (first, count): (u32, u32),
    cpus: usize,
) -> io::Result<Vec<V>> {
    let entries = usize::try_from(count).unwrap_or(0);
    let mut keys: Vec<u32> = vec![0; entries];
    let mut values: Vec<V> = Vec::with_capacity(entries * cpus);
    // The kernel reads from the entry after this one on.
    let before = first.checked_sub(1);
    let mut next = 0_u32;
    let mut attr = BatchAttr {
        in_batch: before.as_ref().map_or(0, |before| address(before)),
        out_batch: address(&raw mut next),
        keys: address(keys.as_mut_ptr()),
        values: address(values.as_mut_ptr()),
        count,
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        Ok(_) => {}
        // The last entry of the array is among them.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        Err(error) => return Err(error),
    }
    let read = usize::try_from(attr.count).unwrap_or(0).min(entries);
    // SAFETY: the kernel filled `read` entries, each with a value for every possible CPU, of V's size rounded up to
    // whole words, and any bytes are a valid value (`Pod`).
    unsafe { values.set_len(read * cpus) };
    Ok(values)
}
