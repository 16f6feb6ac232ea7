//! The thread of `secgroup serve` that delivers the flow logs.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::clock::Clocks;
use crate::config::{Config, Paths};
use crate::control::Control;
use crate::journal;
use crate::observe::collector::hub::Hub;
use crate::observe::flow_logs::delivery::Delivery;
use crate::observe::flow_logs::input::Input;
use crate::observe::flow_logs::packets::Collected;
use crate::observe::flow_logs::status::DeliveryLock;
use crate::telemetry::serve::{Server, Signalled};

/// The longest time between two looks at what is due.
const TICK: Duration = Duration::from_secs(1);

/// Delivers the flow logs until the process ends.
pub(super) fn server(paths: Paths, hub: Arc<Hub>) -> Server {
    Server { name: "flow-logs", run: Box::new(move |signalled| run(&paths, &hub, signalled)) }
}

fn run(paths: &Paths, hub: &Arc<Hub>, mut signalled: Signalled) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build().context("start")?;
    let mut reported = None;
    let mut delivering = None;
    while !*signalled.end.borrow() {
        (signalled.beat)();
        let config = *signalled.config.borrow();
        let result = step(paths, config, hub, &mut delivering);
        let error = result.err().map(|error| format!("{error:#}"));
        if error != reported {
            if let Some(error) = &error {
                journal::report(format_args!("flow logs: {error}"));
            }
            reported = error;
        }
        let wait = delivering.as_ref().map_or(TICK, |(_, delivery)| until(delivery));
        // An error is that the process ends, as a change is.
        let _ = runtime.block_on(async { timeout(wait, signalled.end.changed()).await });
    }
    let Some((_lock, delivery)) = delivering else { return Ok(()) };
    wait_for_collector(hub);
    let config = *signalled.config.borrow();
    let open = || Control::open_read_only(paths, config);
    if let Err(error) = delivery.end(open, &config, Clocks::now().moment.wall) {
        journal::report(format_args!("flow logs: {error:#}"));
    }
    Ok(())
}

/// Delivers what is due, if no other process delivers.
fn step(
    paths: &Paths,
    config: Config,
    hub: &Arc<Hub>,
    delivering: &mut Option<(DeliveryLock, Delivery)>,
) -> Result<()> {
    let now = Clocks::now().moment.wall;
    let open = || Control::open_read_only(paths, config);
    let (_, delivery) = match delivering {
        Some(known) => known,
        None => {
            let lock = DeliveryLock::take(&paths.state_dir).context("lock")?;
            let Some(lock) = lock else { return Ok(()) };
            let input = Input::new(Box::new(Collected::new(Arc::clone(hub))));
            delivering.insert((lock, Delivery::new(&paths.state_dir, input, now)))
        }
    };
    delivery.step(open, &config, now)
}

/// The time until something is due.
fn until(delivery: &Delivery) -> Duration {
    let left = delivery.next() - Clocks::now().moment.wall;
    Duration::from_millis(u64::try_from(left).unwrap_or(0)).clamp(Duration::from_millis(10), TICK)
}

/// How long the collector has, when the process ends, for its last records.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// The collector of this process ends too: what it has read until then belongs to the last interval.
fn wait_for_collector(hub: &Hub) {
    let until = Instant::now() + LAST_RECORDS;
    while hub.state().is_collecting && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
}
