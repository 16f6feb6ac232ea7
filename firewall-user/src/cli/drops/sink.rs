//! Where records go: lines, JSON, a capture file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;

use super::line::Lines;
use crate::cli::output::{self, Format};
use crate::clock::Clocks;
use crate::observe::pcapng::Pcapng;
use crate::observe::record::PacketRecord;

/// Writes records.
pub(super) struct Sink {
    form: Form,
    out: BufWriter<StdoutLock<'static>>,
    file: Option<Pcapng<BufWriter<File>>>,
    count: u64,
    missed: u64,
}

/// What goes to standard output.
enum Form {
    Lines(Lines),
    Json,
    Capture(Pcapng<Vec<u8>>),
}

impl Sink {
    pub(super) fn new(format: Format, pcap: Option<&Path>) -> Result<Self> {
        let to_stdout = pcap.is_some_and(|path| path == Path::new("-"));
        let form = match format {
            _ if to_stdout => Form::Capture(Pcapng::new(Vec::new())?),
            Format::Json => Form::Json,
            Format::Table => {
                let colours = io::stdout().is_terminal() && output::has_colours();
                Form::Lines(Lines { zone: TimeZone::system(), colours })
            }
        };
        let file = pcap.filter(|_| !to_stdout).map(create).transpose()?;
        Ok(Self { form, out: output::stdout(), file, count: 0, missed: 0 })
    }

    pub(super) fn write(&mut self, record: &PacketRecord) -> Result<()> {
        match &mut self.form {
            Form::Lines(lines) => {
                let line = lines.line(record, Clocks::now().moment.wall);
                writeln!(self.out, "{line}")?;
            }
            Form::Json => {
                serde_json::to_writer(&mut self.out, record)?;
                writeln!(self.out)?;
            }
            Form::Capture(capture) => capture.write(record)?,
        }
        if let Some(file) = &mut self.file {
            file.write(record).context("write the capture file")?;
        }
        self.count += 1;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if let Form::Capture(capture) = &mut self.form {
            self.out.write_all(&capture.take())?;
        }
        self.out.flush()?;
        if let Some(file) = &mut self.file {
            file.flush().context("write the capture file")?;
        }
        Ok(())
    }

    /// Records that were written.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// So many records could not be read.
    pub(super) const fn missed(&mut self, records: u64) {
        self.missed += records;
    }

    pub(super) const fn missed_records(&self) -> u64 {
        self.missed
    }

    /// The last lines; to standard error where a program reads standard output.
    pub(super) fn end(mut self, text: &[String]) -> Result<()> {
        self.flush()?;
        match self.form {
            Form::Lines(_) => output_lines(&mut self.out, text),
            _ => {
                text.iter().for_each(|line| output::note(line));
                Ok(())
            }
        }
    }
}

fn output_lines(out: &mut impl Write, text: &[String]) -> Result<()> {
    text.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(out.flush()?)
}

/// Captured packets are for their user alone.
fn create(path: &Path) -> Result<Pcapng<BufWriter<File>>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("create {}", path.display()))?;
    Ok(Pcapng::new(BufWriter::new(file))?)
}
