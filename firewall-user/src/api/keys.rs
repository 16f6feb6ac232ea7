//! The access keys of the endpoint: a file in the state directory that only its owner may read.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Access;
use crate::explain::{Exit, Explain};
use crate::ownership::{self, OwnershipError, access_hint};

/// The names in the state directory: of the file, of the one being written, and of the lock of its writers.
const FILE: &str = "keys.json";
const NEW_FILE: &str = "keys.json.new";
const LOCK: &str = "keys.lock";

/// Larger files are not of this program.
const MAX_BYTES: u64 = 1 << 20;

/// The most keys.
pub const MAX_KEYS: usize = 1000;

/// The longest description in characters.
pub const MAX_DESCRIPTION: usize = 255;

/// What the ids of keys begin with.
const PREFIX: &str = "AKIA";

/// The characters of ids behind the prefix.
const ID_CHARACTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Those of secrets.
const SECRET_CHARACTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Key {
    /// AKIA and 16 letters and digits.
    pub access_key_id: String,
    /// 40 characters, of 240 random bits.
    pub secret_access_key: String,
    /// What it allows.
    #[serde(with = "access")]
    pub access: Access,
    /// When it was created.
    pub create_date: Timestamp,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Without the secret, which belongs into no log.
impl std::fmt::Debug for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { access_key_id, access, .. } = self;
        write!(out, "Key({access_key_id}, {access:?})")
    }
}

/// `Access` in the file and in documents.
mod access {
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    use super::Access;

    pub(super) fn serialize<S: Serializer>(access: &Access, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(access.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(value: D) -> Result<Access, D::Error> {
        let word = String::deserialize(value)?;
        let mut all = [Access::Read, Access::Write].into_iter();
        all.find(|access| access.name() == word).ok_or_else(|| {
            D::Error::custom(format!("access {word} is not read-only or read-write"))
        })
    }
}

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Content {
    keys: Vec<Key>,
}

/// The keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("{what} {}", path.display())]
    Access {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user can change it, or read the secrets.
    #[error("access keys")]
    Ownership(#[from] OwnershipError),
    /// It is not of this program.
    #[error("{} is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no key of this id.
    #[error("access key {0} does not exist")]
    NotFound(String),
    /// There are too many.
    #[error("there are {MAX_KEYS} access keys, as many as there can be")]
    TooMany,
    /// The file would be larger than what is read of it.
    #[error("the file of the access keys would have more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The description is too long or has control characters.
    #[error("description has more than {MAX_DESCRIPTION} characters, or control characters")]
    Description,
    /// The kernel gives no random bytes.
    #[error("random bytes: {0}")]
    Random(getrandom::Error),
}

impl Explain for KeysError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Access { source, .. } => access_hint(source),
            Self::Ownership(error) => error.hint(),
            Self::Malformed { path, .. } => Some(
                format!(
                    "restore it from a backup; or remove it (`rm {}`), after which no key exists, and create new \
                     ones",
                    path.display()
                )
                .into(),
            ),
            Self::NotFound(_) => Some("`secgroup key list` shows the keys".into()),
            Self::TooMany | Self::TooLarge => Some("`secgroup key delete` removes one that is not used".into()),
            Self::Description | Self::Random(_) => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NotFound(_) => Exit::NotFound,
            Self::Description => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// The file of the keys.
#[derive(Clone, Debug)]
pub struct KeyFile {
    dir: PathBuf,
}

impl KeyFile {
    /// That of a state directory; it need not exist.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Every key, in the order of their creation.
    ///
    /// # Errors
    /// The file cannot be read, or another user can change it or read it.
    pub fn list(&self) -> Result<Vec<Key>, KeysError> {
        let path = self.path();
        let failed = |source| KeysError::Access { what: "read", path: path.clone(), source };
        if matches!(fs::exists(&path), Ok(false)) {
            return Ok(Vec::new());
        }
        let mut text = Vec::new();
        let file = ownership::open_private(&path)?;
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
        let content: Content = serde_json::from_slice(&text)
            .map_err(|source| KeysError::Malformed { path: path.clone(), source })?;
        Ok(content.keys)
    }

    /// Creates a key; it is on the disk when this returns.
    ///
    /// # Errors
    /// The description is too long, there are too many keys, or the file cannot be written.
    pub fn create(&self, access: Access, description: &str) -> Result<Key, KeysError> {
        let is_long = description.chars().count() > MAX_DESCRIPTION;
        if is_long || description.chars().any(char::is_control) {
            return Err(KeysError::Description);
        }
        let key = Key {
            access_key_id: format!("{PREFIX}{}", random::<16>(ID_CHARACTERS)?),
            secret_access_key: random::<40>(SECRET_CHARACTERS)?,
            access,
            create_date: Timestamp::from_second(Timestamp::now().as_second())
                .unwrap_or(Timestamp::UNIX_EPOCH),
            description: description.to_owned(),
        };
        self.edit(|keys| {
            if keys.len() >= MAX_KEYS {
                return Err(KeysError::TooMany);
            }
            keys.push(key.clone());
            Ok(())
        })?;
        Ok(key)
    }

    /// Deletes a key: requests that are signed with it are refused from now on.
    ///
    /// # Errors
    /// It does not exist, or the file cannot be written.
    pub fn delete(&self, id: &str) -> Result<(), KeysError> {
        self.edit(|keys| {
            let at = keys.iter().position(|key| key.access_key_id == id);
            keys.remove(at.ok_or_else(|| KeysError::NotFound(id.to_owned()))?);
            Ok(())
        })
    }

    /// Replaces the file by one with the edited keys, one process at a time: at every moment there is the one or
    /// the other, whole.
    fn edit(
        &self,
        edit: impl FnOnce(&mut Vec<Key>) -> Result<(), KeysError>,
    ) -> Result<(), KeysError> {
        ownership::create_directory(&self.dir)?;
        let lock = self.dir.join(LOCK);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Access { what: "write", path, source }
        };
        ownership::create_file(&lock)?;
        let _lock =
            File::open(&lock).and_then(|file| file.lock().map(|()| file)).map_err(failed(&lock))?;
        let mut keys = self.list()?;
        edit(&mut keys)?;
        let mut text = serde_json::to_vec_pretty(&Content { keys })
            .map_err(io::Error::from)
            .map_err(failed(&self.path()))?;
        text.push(b'\n');
        if u64::try_from(text.len()).map_or(true, |length| length > MAX_BYTES) {
            return Err(KeysError::TooLarge);
        }
        self.write(&text).map_err(failed(&self.path()))
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let new = self.dir.join(NEW_FILE);
        // One that a killed process left, whatever its permissions.
        let _ = fs::remove_file(&new);
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.create_new(true).write(true).mode(0o600).open(&new)?;
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&new, self.path())?;
            // The rename is on the disk with the directory.
            File::open(&self.dir)?.sync_all()
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

/// Random characters. A number of characters that is a power of two leaves no bias.
fn random<const LENGTH: usize>(characters: &[u8]) -> Result<String, KeysError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    let character = |byte: &u8| char::from(characters[usize::from(*byte) % characters.len()]);
    Ok(bytes.iter().map(character).collect())
}

/// What tells a file from the one that replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    changed: (i64, i64),
    length: u64,
}

/// The keys as a server uses them: the file is read again when it has changed.
#[derive(Debug)]
pub(super) struct KeyRing {
    file: KeyFile,
    last: Mutex<Option<(Stamp, Arc<[Key]>)>>,
}

impl KeyRing {
    pub(super) const fn new(file: KeyFile) -> Self {
        Self { file, last: Mutex::new(None) }
    }

    /// The keys as they are now.
    pub(super) fn keys(&self) -> Result<Arc<[Key]>, KeysError> {
        // Before the file is read: a later one is noticed.
        let stamp = stamp(&self.file.path());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(stamp), Some((earlier, keys))) = (stamp, &*last)
            && stamp == *earlier
        {
            return Ok(Arc::clone(keys));
        }
        let keys: Arc<[Key]> = self.file.list()?.into();
        *last = stamp.map(|stamp| (stamp, Arc::clone(&keys)));
        Ok(keys)
    }
}

/// `None` without a file.
fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    // The time of the inode's change: nobody can set it, and a change of the mode changes it too.
    Some(Stamp {
        identity: (file.dev(), file.ino()),
        changed: (file.ctime(), file.ctime_nsec()),
        length: file.len(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn state() -> (TempDir, KeyFile) {
        let dir = TempDir::new().unwrap();
        let file = KeyFile::new(&dir.path().join("state"));
        (dir, file)
    }

    #[test]
    fn keys_have_the_form_of_aws_and_are_kept_in_a_private_file() {
        let (_dir, file) = state();
        assert_eq!(file.list().unwrap(), []);
        let key = file.create(Access::Read, "for the monitor").unwrap();
        assert_eq!((key.access_key_id.len(), key.secret_access_key.len()), (20, 40));
        assert!(key.access_key_id.starts_with("AKIA"));
        let other = file.create(Access::Write, "").unwrap();
        assert_ne!(key.access_key_id, other.access_key_id);
        assert_eq!(file.list().unwrap(), [key.clone(), other.clone()]);
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o7777, 0o600);
        assert!(!format!("{key:?}").contains(&key.secret_access_key));

        file.delete(&key.access_key_id).unwrap();
        assert_eq!(file.list().unwrap(), [other]);
        assert!(matches!(file.delete(&key.access_key_id), Err(KeysError::NotFound(_))));
        for wrong in ["x".repeat(256), "a\nb".to_owned()] {
            assert!(matches!(file.create(Access::Read, &wrong), Err(KeysError::Description)));
        }
    }

    #[test]
    fn writers_at_the_same_time_lose_no_key() {
        let (_dir, file) = state();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        file.create(Access::Write, "").unwrap();
                    }
                });
            }
        });
        assert_eq!(file.list().unwrap().len(), 32);
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_damaged_is_refused() {
        let (_dir, file) = state();
        file.create(Access::Write, "").unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
        let readable =
            |result: Result<_, KeysError>| matches!(result, Err(KeysError::Ownership(_)));
        assert!(readable(file.list().map(drop)));
        assert!(readable(file.create(Access::Write, "").map(drop)));
        fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
        fs::write(file.path(), "{\"Keys\": [{}]}").unwrap();
        assert!(matches!(file.list(), Err(KeysError::Malformed { .. })));
        assert!(matches!(file.create(Access::Write, ""), Err(KeysError::Malformed { .. })));
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let (_dir, file) = state();
        let description = "\u{1f511}".repeat(MAX_DESCRIPTION);
        let key = file.create(Access::Write, &description).unwrap();
        let fill = |count: usize| {
            file.edit(|keys| {
                keys.resize(count, key.clone());
                Ok(())
            })
        };
        let length = fs::metadata(file.path()).unwrap().len() as usize;
        let fitting = MAX_BYTES as usize / length;
        fill(fitting).unwrap();
        assert!(fitting < MAX_KEYS && matches!(fill(MAX_KEYS), Err(KeysError::TooLarge)));
        assert_eq!(file.list().unwrap().len(), fitting);
    }

    #[test]
    fn a_server_sees_the_keys_as_they_are_now() {
        let (_dir, file) = state();
        let ring = KeyRing::new(file.clone());
        assert_eq!(ring.keys().unwrap().len(), 0);
        let key = file.create(Access::Write, "").unwrap();
        for _ in 0..2 {
            assert_eq!(*ring.keys().unwrap(), *std::slice::from_ref(&key));
        }
        file.delete(&key.access_key_id).unwrap();
        assert_eq!(ring.keys().unwrap().len(), 0);
        fs::set_permissions(file.path(), Permissions::from_mode(0o644)).unwrap();
        assert!(ring.keys().is_err());
        fs::remove_file(file.path()).unwrap();
        assert_eq!(ring.keys().unwrap().len(), 0);
    }
}
