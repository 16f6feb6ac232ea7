//! Directories that only root, or the user of this process, may change.
//!
//! A name is believed only if nobody else can put something else in its place: every directory on the way
//! to it, from `/`, is ours or root's, and others may not write there, or may not remove what is not theirs
//! (the sticky bit, as in `/tmp`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::geteuid;

use crate::explain::Explain;

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const OF_OTHERS: u32 = 0o077;

/// A directory or a file that somebody else controls.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// Another user owns it.
    #[error("{} belongs to user {owner}", path.display())]
    Owner {
        /// What is owned.
        path: PathBuf,
        /// The number of the user.
        owner: u32,
    },
    /// Other users may write it.
    #[error("{} may be written by others (mode {mode:04o})", path.display())]
    Writable {
        /// What they may write.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Other users may read a secret.
    #[error("{} may be read by others (mode {mode:04o})", path.display())]
    Readable {
        /// What they may read.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It cannot be examined or created.
    #[error("{} cannot be {what}", path.display())]
    Access {
        /// The path.
        path: PathBuf,
        /// `examined` or `created`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Explain for OwnershipError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Owner { path, .. } => Some(
                format!(
                    "its owner could rename or replace what secgroup keeps there: look at what is in it \
                     (`ls -la {}`), remove it or give it to root, and retry; or choose another directory",
                    path.display()
                )
                .into(),
            ),
            Self::Writable { path, .. } => Some(
                format!(
                    "others could rename or replace what secgroup keeps there: `chmod go-w {}`, or choose \
                     another directory",
                    path.display()
                )
                .into(),
            ),
            Self::Readable { path, .. } => Some(
                format!(
                    "a user who has read it has the secret: replace it if that may be, and `chmod go= {}`",
                    path.display()
                )
                .into(),
            ),
            Self::Access { source, .. } => access_hint(source),
        }
    }
}

/// What to do about a file that cannot be used: only a user who is not root is told to be root.
#[must_use]
pub fn access_hint(error: &io::Error) -> Option<Cow<'static, str>> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) if !geteuid().is_root() => {
            Some("run as root".into())
        }
        Some(Errno::EACCES | Errno::EPERM) => Some(
            "root is refused: a security module, a missing capability or an attribute of the file \
             (`lsattr`) forbids it"
                .into(),
        ),
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            Some("free space on that file system (`df`), and retry".into())
        }
        Some(Errno::EROFS) => Some(
            "that file system is mounted read-only, as after a disk error (`dmesg`): mount it writable, \
             and retry"
                .into(),
        ),
        _ => None,
    }
}

/// Requires that nobody else can change what is at a path of a directory, or at the part of the path that
/// exists.
///
/// # Errors
/// Somebody else can, or a part cannot be examined.
pub fn require_directory(dir: &Path) -> Result<(), OwnershipError> {
    walk(dir).map(drop)
}

/// Creates a directory of mode 0700 with those above it, unless it exists; then as
/// [`require_directory`].
///
/// # Errors
/// It cannot be created, or somebody else can change it.
pub fn create_directory(dir: &Path) -> Result<(), OwnershipError> {
    // What exists of the path, before anything is created there.
    if walk(dir)? {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| OwnershipError::Access {
        path: dir.to_owned(),
        what: "created",
        source,
    })?;
    require_directory(dir)
}

/// Creates an empty file of mode 0600 in a directory that passed [`require_directory`], unless it exists;
/// then it must be ours, and others lose their permissions.
///
/// # Errors
/// It cannot be created, or another user owns it.
pub fn create_file(path: &Path) -> Result<(), OwnershipError> {
    let failed =
        |what| move |source| OwnershipError::Access { path: path.to_owned(), what, source };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(OFlag::O_NOFOLLOW.bits());
            return options.open(path).map(drop).map_err(failed("created"));
        }
        result => result.map_err(failed("examined"))?,
    };
    if !is_ours(metadata.uid()) {
        return Err(OwnershipError::Owner { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & OF_OTHERS != 0 {
        let tightened = fs::set_permissions(path, Permissions::from_mode(mode & !OF_OTHERS));
        match tightened {
            // Nobody writes there, and a lock that a reader holds delays nothing.
            Err(error) if error.raw_os_error() == Some(Errno::EROFS as i32) => {}
            result => result.map_err(failed("made private"))?,
        }
    }
    Ok(())
}

/// Opens a file with a secret: it is ours or root's, nobody else may read or write it, and nobody else can put
/// another one in its place. A symbolic link is followed.
///
/// # Errors
/// Another user can, or it cannot be opened.
pub fn open_private(path: &Path) -> Result<File, OwnershipError> {
    let failed =
        |what| move |source| OwnershipError::Access { path: path.to_owned(), what, source };
    // The file that the links lead to, and every directory on the way to them.
    if let Some(parent) = path.parent() {
        require_directory(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    let real = fs::canonicalize(path).map_err(failed("opened"))?;
    if let Some(parent) = real.parent() {
        require_directory(parent)?;
    }
    let mut options = OpenOptions::new();
    // A FIFO would be waited for.
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = options.open(&real).map_err(failed("opened"))?;
    let metadata = file.metadata().map_err(failed("examined"))?;
    if !metadata.is_file() {
        return Err(failed("opened")(io::Error::other("it is not a file")));
    }
    if !is_ours(metadata.uid()) {
        return Err(OwnershipError::Owner { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OF_OTHERS != 0 {
        return Err(OwnershipError::Readable { path: path.to_owned(), mode });
    }
    Ok(file)
}

fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Follows a path from `/`, one name at a time, each through the opened directory before it. Returns
/// whether all of it exists.
fn walk(dir: &Path) -> Result<bool, OwnershipError> {
    let failed = |path: &Path, errno: Errno| OwnershipError::Access {
        path: path.to_owned(),
        what: "examined",
        source: errno.into(),
    };
    let absolute = std::path::absolute(dir).map_err(|source| OwnershipError::Access {
        path: dir.to_owned(),
        what: "examined",
        source,
    })?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = || open("/", flags, Mode::empty()).map_err(|errno| failed(Path::new("/"), errno));
    let mut opened = vec![root()?];
    let mut at = PathBuf::from("/");
    let mut rest = names(&absolute);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let is_last = rest.is_empty();
        if name == OsStr::new("..") {
            at.pop();
            if opened.len() > 1 {
                opened.pop();
            }
            continue;
        }
        let parent = opened[opened.len() - 1].as_fd();
        let path = at.join(&name);
        let status = fstat(parent).map_err(|errno| failed(&at, errno))?;
        check(&at, &status, false)?;
        let entry: OwnedFd = match openat(parent, name.as_os_str(), flags, Mode::empty()) {
            Ok(entry) => entry,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(failed(&path, errno)),
        };
        let status = fstat(&entry).map_err(|errno| failed(&path, errno))?;
        if !is_ours(status.st_uid) {
            return Err(OwnershipError::Owner { path, owner: status.st_uid });
        }
        if status.st_mode & libc::S_IFMT == libc::S_IFLNK {
            links += 1;
            if links > MAX_LINKS {
                return Err(failed(&path, Errno::ELOOP));
            }
            let target: OsString =
                readlinkat(parent, name.as_os_str()).map_err(|errno| failed(&path, errno))?;
            if Path::new(&target).is_absolute() {
                (opened, at) = (vec![root()?], PathBuf::from("/"));
            }
            for name in names(Path::new(&target)).into_iter().rev() {
                rest.push_front(name);
            }
            continue;
        }
        check(&path, &status, is_last)?;
        opened.push(entry);
        at = path;
    }
    Ok(true)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Refuses a directory of somebody else, and one that others may write. On the way to the last one, others
/// may create entries of their own if they may not touch ours.
fn check(path: &Path, status: &FileStat, is_last: bool) -> Result<(), OwnershipError> {
    let (owner, mode) = (status.st_uid, status.st_mode & 0o7777);
    if !is_ours(owner) {
        return Err(OwnershipError::Owner { path: path.to_owned(), owner });
    }
    let others_write = mode & WRITABLE_BY_OTHERS != 0;
    if others_write && (is_last || mode & STICKY == 0) {
        return Err(OwnershipError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn with_mode(dir: &Path, mode: u32) {
        fs::set_permissions(dir, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_is_created_for_its_user_alone() {
        let temporary = TempDir::new().unwrap();
        let dir = temporary.path().join("a/b");
        create_directory(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
        create_directory(&dir).unwrap();
        // The current directory of a test is that of its package.
        require_directory(Path::new("/proc/self")).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_where_it_matters() {
        let temporary = TempDir::new().unwrap();
        let (above, dir) = (temporary.path().join("a"), temporary.path().join("a/b"));
        create_directory(&dir).unwrap();
        for (above_mode, mode, refused) in [
            (0o755, 0o755, None),
            (0o755, 0o775, Some(&dir)),
            (0o755, 0o1777, Some(&dir)),
            (0o777, 0o700, Some(&above)),
            (0o1777, 0o700, None),
        ] {
            with_mode(&above, above_mode);
            with_mode(&dir, mode);
            let error = require_directory(&dir).err().map(|error| match error {
                OwnershipError::Writable { path, .. } => path,
                other => panic!("{other}"),
            });
            assert_eq!(error.as_ref(), refused, "{above_mode:o} {mode:o}");
        }
        // What does not exist yet is to be created where others cannot come first.
        with_mode(&above, 0o777);
        assert!(create_directory(&above.join("new/er")).is_err());
        assert!(!above.join("new").exists());
    }

    #[test]
    fn a_symbolic_link_is_followed_through_directories_that_are_checked() {
        let temporary = TempDir::new().unwrap();
        let (real, open) = (temporary.path().join("real"), temporary.path().join("open"));
        create_directory(&real).unwrap();
        create_directory(&open).unwrap();
        symlink("../real", open.join("link")).unwrap();
        require_directory(&open.join("link")).unwrap();
        with_mode(&open, 0o777);
        assert!(matches!(
            require_directory(&open.join("link")),
            Err(OwnershipError::Writable { .. })
        ));
        symlink("loop", temporary.path().join("loop")).unwrap();
        assert!(matches!(
            require_directory(&temporary.path().join("loop")),
            Err(OwnershipError::Access { .. })
        ));
    }

    #[test]
    fn a_file_loses_the_permissions_of_others() {
        let temporary = TempDir::new().unwrap();
        let path = temporary.path().join("file");
        fs::write(&path, "content").unwrap();
        with_mode(&path, 0o644);
        create_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"content");
        create_file(&temporary.path().join("new")).unwrap();
        assert_eq!(fs::metadata(temporary.path().join("new")).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let temporary = TempDir::new().unwrap();
        let dir = temporary.path().join("dir");
        create_directory(&dir).unwrap();
        let path = dir.join("key");
        fs::write(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            with_mode(&path, mode);
            let error = open_private(&path).unwrap_err();
            assert!(matches!(error, OwnershipError::Readable { mode: found, .. } if found == mode));
        }
        with_mode(&path, 0o600);
        assert_eq!(io::read_to_string(open_private(&path).unwrap()).unwrap(), "secret");
        symlink("dir/key", temporary.path().join("link")).unwrap();
        open_private(&temporary.path().join("link")).unwrap();
        with_mode(&dir, 0o777);
        for path in [dir.join("key"), temporary.path().join("link")] {
            assert!(matches!(open_private(&path), Err(OwnershipError::Writable { .. })));
        }
        with_mode(&dir, 0o700);
        assert!(matches!(open_private(&dir), Err(OwnershipError::Access { .. })));
    }
}
