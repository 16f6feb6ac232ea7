//! `secgroup flow-log show`

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use super::document::FlowLogRecord;
use super::{directory, fields};
use crate::cli::failure::{self, UsageError};
use crate::cli::output::{self, Output};
use crate::cli::since::{self, Since};
use crate::cli::{Context, Exit};
use crate::clock::Clocks;
use crate::observe::flow_logs::field::Format;
use crate::observe::flow_logs::files::read::{Records, find};
use crate::observe::flow_logs::lacking::Lacking;
use crate::observe::flow_logs::record::{LogStatus, Record};
use crate::observe::query::{Query, Stored};

#[derive(Debug, Args)]
#[command(after_help = "\
A file of AWS can be shown as well. Lines that are no records are reported and left out, and so are files
without the field of a filter: the default format has no group, rule, reason and direction. A JSON record is
one line, with every field.

Examples:
  secgroup flow-log show --since 1h --reason no-rule
  secgroup flow-log show ./123456789012_vpcflowlogs_eu-west-1_fl-1_20261130T0300Z_0a1b2c3d.log.gz
  secgroup flow-log show --port https --format '${start} ${srcaddr} ${bytes}'")]
pub(in crate::cli) struct Show {
    /// Files, or directories of files [default: the directory of the configuration]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Fields of a line [default: every one of versions 2 to 5 and of secgroup]
    #[arg(long, value_name = "FIELDS", value_parser = fields)]
    format: Option<Format>,
    /// Only records that end from then on: 30s, 10m, 2h, 1d, or a time as of `secgroup drops`
    #[arg(long, value_name = "TIME", value_parser = since::parse)]
    since: Option<Since>,
    #[command(flatten)]
    query: Query,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let Self { mut paths, format, since, query, output: Output { output } } = self;
        let is_json = output == output::Format::Json;
        if is_json && format.is_some() {
            return Err(UsageError {
                message: "--format cannot be used with --output json".to_owned(),
                hint: "a JSON record has every field",
            }
            .into());
        }
        let format = format.unwrap_or_else(Format::all);
        let control = context.control_reading()?;
        let model = control.model()?;
        let is_everything = query.is_empty() && !query.not;
        let checked = query.check(&Stored { control: &control, model: &model })?;
        let now = Clocks::now().moment.wall;
        // Records have seconds.
        let since = since.map(|since| since.before(now)).transpose()?.map(|since| since / 1000);
        let is_chosen = |record: &Record| {
            let is_recent = since.is_none_or(|since| record.end.is_some_and(|end| end >= since));
            // What is missing may have matched.
            let is_missing = record.status == Some(LogStatus::SkipData);
            is_recent && (is_everything || is_missing || checked.matches(&record.subject()))
        };
        let is_named = !paths.is_empty();
        if !is_named {
            paths.push(directory(context));
        }
        let mut out = output::stdout();
        let mut lacking = Lacking::default();
        // JSON has none.
        let mut is_header_due = !is_json;
        for path in paths {
            let files = match find(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => Vec::new(),
                found => found.with_context(|| format!("read {}", path.display()))?,
            };
            for file in files {
                let records = Records::open(&file)?;
                lacking.add(checked.query(), &file, records.columns());
                // Not before a file could be opened: an error alone is no table without rows.
                if std::mem::take(&mut is_header_due) {
                    writeln!(out, "{}", format.header())?;
                }
                for record in records {
                    match record {
                        Ok(record) if !is_chosen(&record) => {}
                        Ok(record) if is_json => {
                            serde_json::to_writer(&mut out, &FlowLogRecord::from(&record))?;
                            writeln!(out)?;
                        }
                        Ok(record) => writeln!(out, "{}", record.line(&format))?,
                        Err(error) => failure::warn(&error.into()),
                    }
                }
            }
        }
        if is_header_due {
            writeln!(out, "{}", format.header())?;
        }
        out.flush()?;
        for text in lacking.texts() {
            failure::warn(&anyhow!(text));
        }
        Ok(Exit::Done)
    }
}
