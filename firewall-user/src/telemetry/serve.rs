//! The process of `secgroup serve`: serves metrics and what else it is given, attaches interfaces whose devices
//! appear, repairs lost enforcement, follows changes of addresses, and removes expired flows.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Config, Paths};
use crate::control::{Control, NothingAttached};
use crate::http::{Address, Listening, server};
use crate::journal;
use crate::telemetry::follow::{self, Follower};
use crate::telemetry::metrics::Sources;
use crate::telemetry::scrapes::Scrapes;
use crate::telemetry::server::MetricsServer;
use crate::telemetry::supervisor::{Heartbeat, Supervisor, watchdog};

/// Time between two removals of expired flows.
const GC_INTERVAL: Duration = Duration::from_secs(60);

/// The longest time that the first check, which may wait for another command, delays readiness.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The time that a change in progress has to end in when the process ends. One that is cut off is completed by
/// the next command, as after a kill.
const END_TIME: Duration = Duration::from_secs(10);

/// A server of this process, with a thread of its own: whatever its clients do, another one follows the devices.
pub struct Server {
    /// The name of the thread: at most 15 characters.
    pub name: &'static str,
    /// Serves until it is to end.
    pub run: Box<dyn FnOnce(Signalled) -> Result<()> + Send>,
}

/// What the process tells a server, and the server the process.
pub struct Signalled {
    /// To be called at least every few seconds as long as the server works, for the watchdog.
    pub beat: Box<dyn Fn() + Send>,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// Changes at every SIGHUP.
    pub reload: watch::Receiver<u64>,
    /// Changes when the process ends.
    pub end: watch::Receiver<bool>,
}

/// Serves until SIGINT or SIGTERM; SIGHUP reads the configuration again. `check_interval`: the time between two
/// checks of what no notification tells. `sources`: what the metrics have beside store and tables.
///
/// # Errors
/// The address cannot be listened on.
pub fn serve(
    paths: Paths,
    config: Config,
    address: &Address,
    check_interval: Duration,
    sources: Sources,
    mut servers: Vec<Server>,
    listening: impl FnOnce(&Address),
) -> Result<()> {
    let listener = Listening::open(address, "--metrics")?;
    let address = listener.address().context("listen")?;
    let (configure, config) = watch::channel(config);
    let (reload, reloaded) = watch::channel(0);
    let (end, ended) = watch::channel(false);
    servers.push(metrics(listener, Scrapes::new(paths.clone(), config.clone(), sources)));
    let mut heartbeats = vec![Heartbeat::new()];
    let mut threads = Vec::new();
    for Server { name, run } in servers {
        let heartbeat = Heartbeat::new();
        heartbeats.push(heartbeat.clone());
        let signalled = Signalled {
            beat: Box::new(move || heartbeat.beat()),
            config: config.clone(),
            reload: reloaded.clone(),
            end: ended.clone(),
        };
        let thread = thread::Builder::new().name(name.to_owned());
        threads.push(thread.spawn(move || run(signalled)).context("start")?);
    }
    let runtime = runtime()?;
    let supervisor = Supervisor::of_environment();
    let served = runtime.block_on(async {
        let mut signals = Signals::new().context("wait for signals")?;
        listening(&address);
        let (first, checked) = oneshot::channel();
        let follower = Follower::new(paths.clone(), config.clone(), check_interval);
        tokio::spawn(follow::run(follower, heartbeats[0].clone(), first));
        tokio::spawn(gc(paths.clone(), config));
        tokio::spawn(announce(supervisor.clone(), checked, heartbeats));
        signals.handle(&supervisor, &paths, &configure, &reload).await;
        Ok(())
    });
    supervisor.stopping();
    let _ = end.send(true);
    runtime.shutdown_timeout(END_TIME);
    threads.into_iter().fold(served, |served, thread| {
        let joined = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a server failed")));
        served.and(joined)
    })
}

/// The server of the metrics.
fn metrics(listener: Listening, scrapes: Scrapes) -> Server {
    let run = |signalled: Signalled| {
        let Signalled { beat, end, .. } = signalled;
        let runtime = runtime()?;
        let served = runtime.block_on(server::run(listener, MetricsServer(scrapes), beat, end));
        runtime.shutdown_background();
        served.context("serve")
    };
    Server { name: "metrics", run: Box::new(run) }
}

pub(super) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(4).build().context("start")
}

/// Reports readiness after the first check, and then, as long as every part works, that the process is alive.
async fn announce(
    supervisor: Supervisor,
    checked: oneshot::Receiver<()>,
    heartbeats: Vec<Heartbeat>,
) {
    let _ = timeout(READY_LIMIT, checked).await;
    supervisor.ready();
    let Some(time) = watchdog() else { return };
    let mut tick = interval(time / 4);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if heartbeats.iter().all(|heartbeat| heartbeat.age() < time / 2) {
            supervisor.alive();
        }
    }
}

/// Removes expired flows every [`GC_INTERVAL`].
async fn gc(paths: Paths, config: watch::Receiver<Config>) {
    loop {
        tokio::time::sleep(GC_INTERVAL).await;
        let (paths, config) = (paths.clone(), *config.borrow());
        let gc = move || Control::open_existing(&paths, config).and_then(|mut c| c.gc());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(gc).await
            && !error.is::<NothingAttached>()
        {
            journal::report(format_args!("remove expired flows: {error:#}"));
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Reads the configuration again at every SIGHUP; returns at SIGINT or SIGTERM.
    async fn handle(
        &mut self,
        supervisor: &Supervisor,
        paths: &Paths,
        configure: &watch::Sender<Config>,
        reload: &watch::Sender<u64>,
    ) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
            supervisor.reloading();
            reload.send_modify(|count| *count += 1);
            match Config::load(paths.config.as_deref()) {
                Ok(config) => {
                    journal::report(format_args!("configuration reloaded"));
                    configure.send_replace(config);
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    journal::report(format_args!(
                        "configuration not reloaded, the earlier one stays: {error:#}"
                    ));
                }
            }
            supervisor.ready();
        }
    }
}
