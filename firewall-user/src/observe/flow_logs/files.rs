//! Files of records in the layout of AWS. A file appears whole or not at all: it is written under another name, and
//! renamed when it is on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::destination::Bucket;
use super::field::Format;
use super::record::Record;
use crate::model::{FlowLogId, Identity};
use crate::ownership::{self, OwnershipError};

pub mod read;
pub mod retain;

/// The most bytes of a file before compression, as in AWS.
pub const MAX_FILE: usize = 75 << 20;

/// Seconds of the records that AWS puts into files with one time in their names.
const WINDOW: i64 = 300;

/// What the name of an unfinished file begins with.
const UNFINISHED: &str = ".unfinished-";

/// Why records could not be written to a file.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory can be changed by others, or cannot be created.
    #[error(transparent)]
    Directory(#[from] OwnershipError),
    /// A file or directory cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the files of a flow log are, and what they are called.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    /// The directory of all flow logs.
    pub directory: &'a Path,
    /// The flow log's directory there.
    pub bucket: &'a Bucket,
    /// Account and region.
    pub identity: &'a Identity,
    /// The flow log.
    pub id: &'a FlowLogId,
}

impl Layout<'_> {
    /// The directory of records with an end in a window.
    fn directory(&self, window: Timestamp) -> PathBuf {
        let Identity { account, region } = self.identity;
        let time = window.to_zoned(TimeZone::UTC);
        let Bucket { is_hive, is_per_hour, .. } = *self.bucket;
        let mut path = self.bucket.below(self.directory).join("AWSLogs");
        if is_hive {
            path.push(format!(
                "aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}"
            ));
            path.push(time.strftime("year=%Y/month=%m/day=%d").to_string());
        } else {
            path.push(format!("{account}/vpcflowlogs/{region}"));
            path.push(time.strftime("%Y/%m/%d").to_string());
        }
        if is_per_hour {
            let hour = if is_hive { "hour=%H" } else { "%H" };
            path.push(time.strftime(hour).to_string());
        }
        path
    }

    /// A name of a file. AWS's hash keeps files of one window apart; here it is random.
    fn name(&self, window: Timestamp) -> io::Result<String> {
        let Identity { account, region } = self.identity;
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let time = window.to_zoned(TimeZone::UTC);
        let time = time.strftime("%Y%m%dT%H%MZ");
        let hash = u32::from_be_bytes(random);
        Ok(format!("{account}_vpcflowlogs_{region}_{}_{time}_{hash:08x}.log.gz", self.id))
    }

    /// Writes the records of an interval that ended at a time, in seconds since 1970, into one file, or into more if
    /// they have more than `max_file` bytes. Returns the files with the number of their records.
    ///
    /// # Errors
    /// A file or directory cannot be written. Files that were finished before stay, and are returned.
    pub fn write(
        &self,
        end: i64,
        format: &Format,
        records: &[Record],
        max_file: usize,
    ) -> (Vec<(PathBuf, usize)>, Result<(), WriteError>) {
        let mut written = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let mut text = format.header();
            text.push('\n');
            let mut count = 0;
            while let Some(record) = rest.get(count) {
                let before = text.len();
                record.write(format, &mut text);
                text.push('\n');
                if text.len() > max_file && count > 0 {
                    text.truncate(before);
                    break;
                }
                count += 1;
            }
            match self.write_file(end, &text) {
                Ok(path) => written.push((path, count)),
                Err(error) => return (written, Err(error)),
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        (written, Ok(()))
    }

    fn write_file(&self, end: i64, text: &str) -> Result<PathBuf, WriteError> {
        // The records end before the interval does.
        let window = (end - 1).div_euclid(WINDOW) * WINDOW;
        let window = Timestamp::from_second(window).unwrap_or(Timestamp::UNIX_EPOCH);
        let directory = self.directory(window);
        create(self.directory, &directory)?;
        let failed = |path: &Path, source| WriteError::Write { path: path.to_owned(), source };
        let name = self.name(window).map_err(|error| failed(&directory, error))?;
        let unfinished = directory.join(format!("{UNFINISHED}{name}"));
        let path = directory.join(name);
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o640).open(&unfinished)?;
            let mut gzip = GzEncoder::new(BufWriter::new(&file), Compression::default());
            gzip.write_all(text.as_bytes())?;
            gzip.finish()?.into_inner()?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            // The name is on the disk, too.
            File::open(&directory)?.sync_all()
        };
        write().map_err(|error| {
            // It may not be there.
            let _ = fs::remove_file(&unfinished);
            failed(&path, error)
        })?;
        Ok(path)
    }
}

/// Creates a directory below that of all flow logs. Nobody else can change one of them, so no link leads elsewhere.
fn create(all: &Path, directory: &Path) -> Result<(), WriteError> {
    ownership::create_directory(all)?;
    let made = DirBuilder::new().recursive(true).mode(0o750).create(directory);
    made.map_err(|source| WriteError::Write { path: directory.to_owned(), source })?;
    Ok(ownership::require_directory(directory)?)
}
