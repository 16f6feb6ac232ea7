//! Messages to the service manager that started the process (sd_notify(3)), and the watchdog.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The service manager, if one waits for messages.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    socket: Option<SocketAddr>,
}

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        let name = env::var_os("NOTIFY_SOCKET");
        let socket = name.and_then(|name| match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            _ => SocketAddr::from_pathname(&name).ok(),
        });
        Self { socket }
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// Announces that the configuration is read again; [`Self::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Without a manager, or if it does not read, the message is lost.
    fn send(&self, message: &str) {
        let send = |to| -> io::Result<_> {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), to)
        };
        let _ = self.socket.as_ref().map(send);
    }
}

/// The time after which the service manager ends this process unless [`Supervisor::alive`] was sent; `None`: it
/// does not.
pub(super) fn watchdog() -> Option<Duration> {
    let is_other = |id: String| id.parse() != Ok(std::process::id());
    if env::var("WATCHDOG_PID").is_ok_and(is_other) {
        return None;
    }
    let time = env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    (!time.is_zero()).then_some(time)
}

/// When a part of this process has last shown that it works.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    began: Instant,
    /// Milliseconds since `began`.
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default() }
    }

    pub(super) fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// The time since then.
    pub(super) fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}
