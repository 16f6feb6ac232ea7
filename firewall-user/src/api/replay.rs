//! Requests that change something are carried out once, although one that was read on its way can be sent again.
//!
//! A signature is remembered until it is not valid any more. Those of before this process began are not known, so a
//! request that was signed before it is refused. The latest time that was accepted is in a file, and after a restart
//! the requests up to it are refused too: a client whose clock is ahead signs with times to come, and a host without
//! a clock of its own begins in 1970.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use firewall_ec2::sigv4::{MAX_SKEW, Signature};

use crate::ownership;

/// The most signatures that are remembered: a change every 3 milliseconds with the longest validity of a header.
const MAX_SIGNATURES: usize = 200_000;

/// The file's name in the state directory, and that of the one being written.
const FILE: &str = "signed-until";
const NEW_FILE: &str = "signed-until.new";

/// The times in the file are multiples of this number of seconds, so that it is not written for each request. After
/// a restart, requests may be refused for as long.
const STEP: i64 = 2;

/// How often what is not valid any more is looked for, in seconds.
const REMOVAL: i64 = 10;

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Repeated {
    /// It may have been carried out before.
    #[error(
        "A request with this signature may have been carried out already: sign it again, a second later."
    )]
    Known,
    /// Too many are remembered.
    #[error("Request limit exceeded.")]
    TooMany,
    /// Requests of now may have been carried out before the clock was set back.
    #[error(
        "the clock was set back by {0} s since this process began or removed signatures: it carries out no \
         change before its earlier time; `systemctl restart secgroup` if the clock is right now"
    )]
    SetBack(i64),
    /// The time could not be stored.
    #[error("write {}: {error}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The signatures of requests that were carried out.
#[derive(Debug)]
pub(super) struct Replays {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that were signed up to this second may have been carried out by an earlier process.
    floor: i64,
    /// The latest time in the file.
    stored: i64,
    /// What is not remembered any more was valid until this second at most.
    forgotten: i64,
    /// When to look for what is not valid any more.
    next_removal: i64,
    /// Until when each is valid.
    known: HashMap<[u8; 32], i64>,
}

impl Replays {
    /// Of a process that begins at `now`, in seconds since 1970.
    pub(super) fn new(dir: &Path, now: i64) -> io::Result<Self> {
        let stored = read(dir)?;
        let state = State {
            floor: stored.max(now),
            stored,
            // Far from the least number, so that differences fit.
            forgotten: i64::MIN / 2,
            next_removal: now,
            known: HashMap::new(),
        };
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Records a verified signature before its request is carried out.
    pub(super) fn admit(&self, signature: &Signature, now: i64) -> Result<(), Repeated> {
        let (time, until) = (signature.time().seconds(), signature.valid_until());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove(now);
        let latest = state.floor.max(state.forgotten);
        // The time of a client may be ahead of this host's, and is in the file rounded up.
        if now < latest - MAX_SKEW - REMOVAL {
            return Err(Repeated::SetBack(latest - now));
        }
        // The clock may have been set back since what was valid until then was removed.
        if time <= state.floor || until <= state.forgotten {
            return Err(Repeated::Known);
        }
        if state.known.contains_key(signature.bytes()) {
            return Err(Repeated::Known);
        }
        if state.known.len() >= MAX_SIGNATURES {
            return Err(Repeated::TooMany);
        }
        if time > state.stored {
            let stored = time.saturating_add(STEP - time.rem_euclid(STEP));
            write(&self.dir, stored)
                .map_err(|error| Repeated::Store { path: self.dir.join(FILE), error })?;
            state.stored = stored;
        }
        state.known.insert(*signature.bytes(), until);
        Ok(())
    }
}

impl State {
    /// Removes what is not valid any more, at most every [`REMOVAL`] seconds.
    fn remove(&mut self, now: i64) {
        if now < self.next_removal {
            return;
        }
        self.next_removal = now.saturating_add(REMOVAL);
        let before = self.known.len();
        self.known.retain(|_, until| *until >= now);
        if self.known.len() < before {
            self.forgotten = self.forgotten.max(now - 1);
        }
    }
}

fn read(dir: &Path) -> io::Result<i64> {
    let path = dir.join(FILE);
    let mut text = String::new();
    match ownership::open_private(&path) {
        Ok(file) => file.take(64).read_to_string(&mut text)?,
        Err(_) if matches!(fs::exists(&path), Ok(false)) => return Ok(i64::MIN),
        Err(error) => return Err(io::Error::other(error)),
    };
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed");
    text.trim().parse().map_err(|_| malformed())
}

fn write(dir: &Path, time: i64) -> io::Result<()> {
    let new = dir.join(NEW_FILE);
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(&new)?;
    writeln!(file, "{time}")?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use firewall_ec2::sigv4::Request;
    use tempfile::TempDir;

    use super::*;

    const NOON: i64 = 1_440_936_000;

    /// A signature with a number, signed some seconds after noon.
    fn signature(number: u8, second: i64) -> Signature {
        let time = format!("20150830T12{:02}{:02}Z", second / 60, second % 60);
        let digits: String = [number; 32].iter().map(|byte| format!("{byte:02x}")).collect();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20150830/r/ec2/aws4_request, SignedHeaders=host, \
             Signature={digits}"
        );
        let headers: [(&str, &[u8]); 3] = [
            ("host", b"h"),
            ("x-amz-date", time.as_bytes()),
            ("authorization", authorization.as_bytes()),
        ];
        let request = Request { method: "POST", query: "", headers: &headers, body: b"" };
        let signature = Signature::read(&request).unwrap();
        assert_eq!(signature.time().seconds(), NOON + second);
        signature
    }

    fn is_known(result: Result<(), Repeated>) -> bool {
        match result {
            Ok(()) => false,
            Err(Repeated::Known) => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_signature_is_admitted_once_while_it_is_valid() {
        let dir = TempDir::new().unwrap();
        let replays = Replays::new(dir.path(), NOON).unwrap();
        let admit = |number, second, now| is_known(replays.admit(&signature(number, second), now));
        assert!(!admit(1, 60, NOON + 60));
        assert!(admit(1, 60, NOON + 60));
        assert!(!admit(2, 60, NOON + 60));
        assert!(admit(1, 60, NOON + 359));
        // It is not remembered any more, and a clock that is set back changes nothing.
        assert!(!admit(3, 370, NOON + 370));
        assert_eq!(replays.state.lock().unwrap().known.len(), 1);
        assert!(admit(1, 60, NOON + 60));
        assert!(admit(2, 60, NOON + 60));
        let replays = Replays::new(dir.path(), NOON + 3000).unwrap();
        let admitted = replays.admit(&signature(4, 60), NOON + 60);
        assert!(matches!(admitted, Err(Repeated::SetBack(2940))), "{admitted:?}");
    }

    #[test]
    fn after_a_restart_what_may_have_been_carried_out_is_refused() {
        let dir = TempDir::new().unwrap();
        let replays = Replays::new(dir.path(), NOON).unwrap();
        assert!(!is_known(replays.admit(&signature(1, 60), NOON + 60)));
        // A client whose clock is two minutes ahead.
        assert!(!is_known(replays.admit(&signature(2, 181), NOON + 61)));
        let replays = Replays::new(dir.path(), NOON + 70).unwrap();
        for (number, second, refused) in
            [(1, 60, true), (2, 181, true), (3, 70, true), (4, 182, true), (5, 183, false)]
        {
            let admitted = replays.admit(&signature(number, second), NOON + 71);
            assert_eq!(is_known(admitted), refused, "{second}");
        }
        fs::write(dir.path().join(FILE), "later").unwrap();
        assert!(Replays::new(dir.path(), NOON).is_err());
    }

    #[test]
    fn after_a_start_in_1970_what_was_carried_out_is_refused() {
        let dir = TempDir::new().unwrap();
        let replays = Replays::new(dir.path(), NOON).unwrap();
        assert!(!is_known(replays.admit(&signature(1, 60), NOON + 60)));
        // The clock is set after the process has begun.
        let replays = Replays::new(dir.path(), 0).unwrap();
        for (number, second, refused) in [(1, 60, true), (2, 62, true), (3, 63, false)] {
            let admitted = replays.admit(&signature(number, second), NOON + 64);
            assert_eq!(is_known(admitted), refused, "{second}");
        }
    }
}
