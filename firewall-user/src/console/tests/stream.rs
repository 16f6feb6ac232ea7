//! The records that come, as a browser receives them.

use std::time::Instant;

use super::*;

/// What a stream sends until it has sent this.
pub(super) fn read(host: &Host, path: &str, headers: &[(&str, &str)], until: &str) -> String {
    let response = host.begin(&Method::GET, path, &[&[HOST], headers].concat());
    assert_eq!(response.status(), 200, "{path}");
    let mut body = response.into_body();
    let mut text = String::new();
    host.runtime.block_on(async {
        while !text.contains(until) {
            let frame = timeout(Duration::from_secs(20), body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("{path}: {text}")).unwrap().unwrap();
            text += str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
    });
    text
}

/// The numbers of the events of records.
fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[test]
fn a_stream_goes_on_after_the_last_record_that_the_browser_had() {
    let host = Host::new();
    let of = |verdict| PacketRecord { verdict, ..PacketRecord::sample(1000, 1) };
    host.record([Verdict::Drop, Verdict::Drop, Verdict::Pass, Verdict::WouldDrop].map(of));
    let last = |id| [("last-event-id", id)];
    let text = read(&host, "/drops.events?after=1", &[], "id: 4");
    assert!(text.starts_with(": connected\nretry: 2000\n\n"), "{text}");
    // What passed is no drop.
    assert_eq!(ids(&text), ["2", "4"]);
    assert_eq!(ids(&read(&host, "/drops.events?after=1", &last("2"), "id: 4")), ["4"]);
    assert_eq!(ids(&read(&host, "/drops.events?after=1", &last("x"), "id: 4")), ["2", "4"]);
    let audit = "/drops.events?after=0&reason=no-rule";
    assert_eq!(ids(&read(&host, audit, &[], "id: 4")), ["1", "2", "4"]);
}

#[test]
fn more_records_than_a_page_shows_are_told_as_skipped() {
    let host = Host::new();
    host.record((0..203).map(|time| PacketRecord::sample(time, 1)));
    let text = read(&host, "/drops.events?after=1", &[], "id: 203");
    assert!(text.contains("event: skipped\ndata: {\"skipped\":2}\n\n"), "{text}");
    let ids = ids(&text);
    assert_eq!((ids.len(), ids[0], ids[199]), (200, "4", "203"));
}

#[test]
fn streams_are_bounded_and_one_that_ends_makes_room() {
    let host = Host::new();
    let open = || host.begin(&Method::GET, "/drops.events", &[HOST]);
    let mut streams: Vec<_> = (0..16).map(|_| open()).collect();
    assert!(streams.iter().all(|stream| stream.status() == 200));
    let refused = host.get("/drops.events");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_secure(&refused, "busy");
    // Pages are answered.
    assert_eq!(host.get("/drops").status, 200);
    streams.pop();
    let until = Instant::now() + Duration::from_secs(20);
    while open().status() != 200 {
        assert!(Instant::now() < until, "no room");
        host.runtime.block_on(tokio::task::yield_now());
    }
}

#[test]
fn a_stream_ends_with_the_process() {
    let host = Host::new();
    let mut body = host.begin(&Method::GET, "/drops.events", &[HOST]).into_body();
    host.end.send(true).unwrap();
    host.runtime.block_on(async {
        let end = async { while body.frame().await.is_some() {} };
        timeout(Duration::from_secs(20), end).await.unwrap();
    });
}
