//! Where the records of a flow log go.

use std::path::{Path, PathBuf};

use super::aggregate::Traffic;
use super::field::{Format, FormatError};
use crate::model::FlowLogSettings;

/// Where the records of a flow log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To files below a directory: `s3` of EC2's API.
    Files(Bucket),
    /// To the system's journal, with the name of a log group: `cloud-watch-logs` of EC2's API.
    Journal {
        /// The name.
        log_group: String,
    },
}

/// A directory of files, named as a bucket of S3 and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name, then the parts of the prefix: each is a plain name of a directory.
    parts: Vec<String>,
    /// Whether the names of directories are `KEY=VALUE`.
    pub is_hive: bool,
    /// Whether each hour has a directory.
    pub is_per_hour: bool,
}

/// What a flow log records and where, as far as this program can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which packets.
    pub traffic: Traffic,
    /// The fields.
    pub format: Format,
    /// Seconds of an interval.
    pub interval: u32,
    /// Where to.
    pub destination: Destination,
}

/// Why the records of a flow log cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// A service that is not there.
    #[error("secgroup delivers to files (s3) and to the journal (cloud-watch-logs), not to {0}")]
    Service(String),
    /// Files of another form.
    #[error("secgroup writes files of the format plain-text, not {0}")]
    FileFormat(String),
    /// A bucket or a prefix that is no name of a directory.
    #[error("LogDestination: {name:?} in {destination:?} is not a {what}")]
    Name {
        /// The name.
        name: String,
        /// The destination with it.
        destination: String,
        /// What it should be.
        what: &'static str,
    },
    /// The destination is missing or has another form.
    #[error("LogDestination: {0:?} is not an ARN of {1}")]
    Arn(String, &'static str),
    /// The format has an unknown field.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A word that EC2 does not have either.
    #[error("TrafficType {0:?}")]
    Traffic(String),
}

impl Plan {
    /// What the settings of a flow log ask for.
    ///
    /// # Errors
    /// This program cannot deliver it.
    pub fn new(settings: &FlowLogSettings) -> Result<Self, DestinationError> {
        let traffic = Traffic::named(&settings.traffic);
        let traffic = traffic.ok_or_else(|| DestinationError::Traffic(settings.traffic.clone()))?;
        let format = settings.format.parse()?;
        let destination = match &*settings.destination_type {
            "s3" => Destination::Files(Bucket::new(settings)?),
            "cloud-watch-logs" => Destination::Journal { log_group: log_group(settings)? },
            other => return Err(DestinationError::Service(other.to_owned())),
        };
        Ok(Self { traffic, format, interval: settings.interval, destination })
    }
}

fn log_group(settings: &FlowLogSettings) -> Result<String, DestinationError> {
    if let Some(name) = &settings.log_group {
        return Ok(name.clone());
    }
    let arn = settings.destination.as_deref().unwrap_or_default();
    let name = arn.splitn(6, ':').nth(5).and_then(|resource| resource.strip_prefix("log-group:"));
    // `:*` of an ARN stands for the streams of the group.
    let name = name.map(|name| name.trim_end_matches(":*")).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| {
        DestinationError::Arn(arn.to_owned(), "a log group (arn:aws:logs:…:log-group:NAME)")
    })
}

impl Bucket {
    fn new(settings: &FlowLogSettings) -> Result<Self, DestinationError> {
        let (mut is_hive, mut is_per_hour) = (false, false);
        if let Some(files) = &settings.files {
            if files.format != "plain-text" {
                return Err(DestinationError::FileFormat(files.format.clone()));
            }
            (is_hive, is_per_hour) = (files.is_hive, files.is_per_hour);
        }
        let arn = settings.destination.as_deref().unwrap_or_default();
        Ok(Self { parts: parts(arn)?, is_hive, is_per_hour })
    }

    /// Its directory below that of all flow logs.
    #[must_use]
    pub fn below(&self, directory: &Path) -> PathBuf {
        self.parts.iter().fold(directory.to_owned(), |path, part| path.join(part))
    }
}

/// Bucket and prefix of an ARN, such that nothing in it leads out of a directory.
///
/// # Errors
/// It is no ARN of S3, the bucket has a name that S3 does not allow, or a part of the prefix is no plain name.
pub fn parts(arn: &str) -> Result<Vec<String>, DestinationError> {
    let mut fields = arn.splitn(6, ':');
    let is_of_s3 = fields.next() == Some("arn")
        && fields.next().is_some_and(|partition| !partition.is_empty())
        && fields.next() == Some("s3");
    let resource = fields.nth(2).filter(|_| is_of_s3);
    let resource = resource.ok_or_else(|| DestinationError::Arn(arn.to_owned(), "s3"))?;
    let refused = |name: &str, what| {
        Err(DestinationError::Name { name: name.to_owned(), destination: arn.to_owned(), what })
    };
    let mut names = resource.strip_suffix('/').unwrap_or(resource).split('/');
    let bucket = names.next().unwrap_or_default();
    if !is_bucket(bucket) {
        return refused(
            bucket,
            "name of a bucket: 3 to 63 small letters, digits, dots and hyphens, a letter or digit at both ends",
        );
    }
    let mut parts = vec![bucket.to_owned()];
    for name in names {
        if !is_plain(name) {
            return refused(
                name,
                "part of a prefix: letters, digits and !-_.*'()=, no dot at the beginning",
            );
        }
        if name == "AWSLogs" {
            return refused(name, "part of a prefix: flow logs have a directory of this name");
        }
        parts.push(name.to_owned());
    }
    Ok(parts)
}

fn is_bucket(name: &str) -> bool {
    let is_end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (3..=63).contains(&name.len())
        && !name.contains("..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
        && is_end(name.bytes().next())
        && is_end(name.bytes().next_back())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!-_.*'()=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_and_a_prefix_are_names_of_directories() {
        for (arn, path) in [
            ("arn:aws:s3:::bucket", "/d/bucket"),
            ("arn:aws:s3:::my.bucket-1/", "/d/my.bucket-1"),
            ("arn:aws-cn:s3:::bucket/a/b_c/", "/d/bucket/a/b_c"),
        ] {
            let bucket = Bucket { parts: parts(arn).unwrap(), is_hive: false, is_per_hour: false };
            assert_eq!(bucket.below(Path::new("/d")), Path::new(path), "{arn}");
        }
    }

    #[test]
    fn no_destination_leads_out_of_the_directory() {
        for arn in [
            "",
            "bucket",
            "arn:aws:logs:::bucket",
            "arn:aws:s3:::",
            "arn:aws:s3:::/etc",
            "arn:aws:s3:::..",
            "arn:aws:s3:::../../etc",
            "arn:aws:s3:::a..b",
            "arn:aws:s3:::Bucket",
            "arn:aws:s3:::bucket/../../etc",
            "arn:aws:s3:::bucket//etc",
            "arn:aws:s3:::bucket/./x",
            "arn:aws:s3:::bucket/.hidden",
            "arn:aws:s3:::bucket/a\0b",
            "arn:aws:s3:::bucket/a b",
            "arn:aws:s3:::bucket/AWSLogs/",
        ] {
            assert!(parts(arn).is_err(), "{arn}");
        }
    }
}
