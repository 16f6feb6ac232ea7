//! Waiting for keys. The event reader of crossterm reads a terminal that is gone again and again and never returns
//! (`UnixInternalEventSource::try_read`), so it is asked only while there is one.

use std::io;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event;

/// For how long the process may go on without a terminal, to end as it does otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// What the terminal has.
pub(super) enum Waited {
    /// An event, which can be read.
    Event,
    /// Nothing in this time.
    Nothing,
    /// It is gone, as when an SSH connection breaks.
    Gone,
}

/// Waits for an event.
pub(super) fn wait(time: Duration) -> Result<Waited> {
    // What was read with the event before.
    if !is_gone(Duration::ZERO)? && event::poll(Duration::ZERO).context("read the terminal")? {
        return Ok(Waited::Event);
    }
    if is_gone(time)? {
        return Ok(Waited::Gone);
    }
    // Also after nothing was read: the size may be another one.
    let has_event = event::poll(Duration::ZERO).context("read the terminal")?;
    Ok(if has_event { Waited::Event } else { Waited::Nothing })
}

/// Whether standard input is gone, after waiting for it to have something.
fn is_gone(time: Duration) -> Result<bool> {
    let found = hangup(PollFlags::POLLIN, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    match found {
        // A signal, as of a change of size.
        Err(Errno::EINTR) => Ok(false),
        found => found.context("read the terminal"),
    }
}

fn hangup(events: PollFlags, timeout: PollTimeout) -> nix::Result<bool> {
    let input = io::stdin();
    let mut input = [PollFd::new(input.as_fd(), events)];
    poll(&mut input, timeout)?;
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(input[0].revents().is_some_and(|found| found.intersects(gone)))
}

/// Ends the process some time after the terminal is gone, if that happened while crossterm read it.
pub(super) fn end_without_terminal() {
    thread::spawn(|| {
        while !matches!(hangup(PollFlags::empty(), PollTimeout::NONE), Ok(true)) {}
        thread::sleep(GRACE);
        std::process::exit(0);
    });
}
