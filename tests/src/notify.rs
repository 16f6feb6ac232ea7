//! The part of a service manager: receives what a process reports to it (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::sweep;
use crate::wait::{MAX_WAIT, wait_until};

/// A socket for messages.
pub struct Notify {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Notify {
    /// A new socket.
    #[expect(clippy::new_without_default, reason = "a file, not a value")]
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
            .tempdir()
            .expect("create a directory for a socket");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("bind a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set a timeout");
        Self { socket, directory }
    }

    /// Starts a command that reports to this socket, keeps its output, and waits until it is ready.
    #[must_use]
    pub fn start(&self, mut command: Command) -> Process {
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        let process = Process::capture(command);
        self.wait_for("READY=1");
        process
    }

    /// Waits for a message, and drops those before it.
    pub fn wait_for(&self, message: &str) {
        wait_until(MAX_WAIT, &format!("the message {message}"), || {
            self.receive().is_some_and(|received| received.lines().any(|line| line == message))
        });
    }

    /// The next message, if there is one soon.
    #[must_use]
    pub fn receive(&self) -> Option<String> {
        let mut buffer = [0; 512];
        let size = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..size]).into_owned())
    }
}
