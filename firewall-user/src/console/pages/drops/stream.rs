//! The records that come, as server-sent events. The number of an event is that of its record: a browser whose
//! connection ends asks for those after the last one that it had.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep};

use super::row::Row;
use super::{OWN, Window, is_drop};
use crate::console::answer::{Problem, with_type};
use crate::console::journal;
use crate::console::routes::{Asked, Shared};
use crate::console::view::MAX_ROWS;
use crate::observe::journal::{Entry, Follow};
use crate::observe::query::Checked;
use crate::observe::record::PacketRecord;

/// The time between two looks at the journal.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The time without an event after which one shows that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Lines of the journal that are read at a time.
const MAX_READ: usize = 4096;

/// Answers that wait for a slow client; reading waits meanwhile.
const QUEUE: usize = 2;

/// A record, as `secgroup drops --output json` prints it, and as the row of the page.
#[derive(Serialize)]
struct Event<'a> {
    record: &'a PacketRecord,
    row: Row,
}

/// Records that were not sent: too many came at a time, or they were deleted before they were read.
#[derive(Serialize)]
struct Skipped {
    skipped: u64,
}

/// The stream of a window of a browser.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let permit = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| Problem::busy())?;
    let Asked { headers, words, .. } = asked;
    // What the browser had last; of a new page, what the page had.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let last: Option<u64> = last.and_then(|value| value.parse().ok());
    let (follow, checked) = shared
        .read(move |shared| {
            let after = last.or(Window::of(&words)?.after);
            let (control, reader) = (shared.control()?, shared.journal()?);
            let checked = journal::check(&words, &OWN, &control, &reader)?;
            Ok((reader.follow(after).map_err(anyhow::Error::from)?, checked))
        })
        .await?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(run(Arc::clone(shared), follow, checked, sender, permit));
    Ok(with_type("text/event-stream", Body::new(Events(receiver))))
}

/// Sends until the client has gone or the process ends.
async fn run(
    shared: Arc<Shared>,
    mut follow: Follow,
    checked: Checked,
    sender: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
) {
    let mut end = shared.end.clone();
    let mut sent = Instant::now();
    // At once, so that the browser knows that it is connected.
    let mut text = ": connected\nretry: 2000\n\n".to_owned();
    let mut missed = 0;
    loop {
        if text.is_empty() && sent.elapsed() >= HEARTBEAT {
            text.push_str(": alive\n\n");
        }
        if !text.is_empty() {
            sent = Instant::now();
            let send = sender.send(std::mem::take(&mut text).into());
            tokio::select! {
                gone = send => if gone.is_err() { return },
                _ = end.changed() => return,
            }
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            () = sender.closed() => return,
            _ = end.changed() => return,
        }
        let read = tokio::task::spawn_blocking(move || {
            let entries = follow.read(MAX_READ);
            (follow, entries)
        });
        let Ok((back, entries)) = read.await else { return };
        follow = back;
        // The browser connects again, and is told what is wrong.
        let Ok(entries) = entries else { return };
        let now_missed = follow.missed();
        text = events(entries, &checked, now_missed - missed);
        missed = now_missed;
    }
}

/// The text of what was read; the newest records, where there are more than a page shows.
fn events(entries: Vec<Entry>, checked: &Checked, missed: u64) -> String {
    let mut text = String::new();
    let mut records = Vec::new();
    for entry in entries {
        match entry {
            Entry::Record(record) if is_drop(&record) && checked.matches(&(&*record).into()) => {
                records.push(record);
            }
            Entry::Record(_) => {}
            Entry::Account { account } => write(&mut text, "account", None, &account),
        }
    }
    let too_many = records.len().saturating_sub(MAX_ROWS);
    let skipped = missed.saturating_add(u64::try_from(too_many).unwrap_or(u64::MAX));
    if skipped > 0 {
        write(&mut text, "skipped", None, &Skipped { skipped });
    }
    for record in &records[too_many..] {
        let event = Event { record, row: Row::new(record) };
        write(&mut text, "record", Some(record.id), &event);
    }
    text
}

/// Appends an event. JSON has no line breaks in it, so that no text of a record ends the event.
fn write(text: &mut String, name: &str, id: Option<u64>, data: &impl Serialize) {
    let Ok(data) = serde_json::to_string(data) else { return };
    if let Some(id) = id {
        text.push_str(&format!("id: {id}\n"));
    }
    text.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}

/// The body of the answer: what the task sends.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
