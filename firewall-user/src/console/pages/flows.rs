//! The live flows, sorted, a page of them.

use std::cmp::Reverse;
use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use crate::console::answer::{Form, Problem, html, json};
use crate::console::filters::{self, Filters, Input, Of};
use crate::console::routes::{Asked, Shared};
use crate::console::texts;
use crate::console::view::{Frame, MAX_ROWS, link};
use crate::control::NothingAttached;
use crate::observe::flows::document::FlowList;
use crate::observe::flows::untracked::{Untracked, untracked};
use crate::observe::flows::{Admitted, LiveFlow, live_flows};
use crate::observe::query::{Stored, protocol_name};

/// The words of this page that are no filters.
const OWN: [&str; 2] = ["sort", "start"];

/// What flows can be sorted by: word, heading, and whether it is a number.
const SORTS: [(&str, &str); 4] =
    [("bytes", "Bytes in/out"), ("packets", "Packets in/out"), ("age", "Age"), ("idle", "Idle")];

#[derive(Template)]
#[template(path = "flows.html")]
struct Page {
    frame: Frame,
    filters: Filters,
    clear: &'static str,
    /// What the table shows, in one sentence.
    summary: String,
    /// Why there may be none: sentences.
    untracked: Vec<String>,
    columns: Vec<SortColumn>,
    rows: Vec<Row>,
    /// Links to the rows before and after.
    before: Option<String>,
    after: Option<String>,
}

/// A heading that sorts.
struct SortColumn {
    heading: &'static str,
    link: String,
    is_sorted: bool,
    /// The order, for `aria-sort`.
    order: &'static str,
}

struct Row {
    label: String,
    direction: &'static str,
    protocol: String,
    from: String,
    to: String,
    state: &'static str,
    bytes: String,
    packets: String,
    age: String,
    idle: String,
    group: String,
    rule: String,
}

/// The page, or the document of `secgroup flows list`, of these rows.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Asked { form, words, .. } = asked;
    let order = Order::of(&words);
    let (read, words) = shared
        .read(move |shared| {
            let order = order?;
            Ok((read(shared, &words, &order).map(|flows| (flows, order)), words))
        })
        .await?;
    let mut filters = Filters::new(Of::Flows, &[], &words);
    match read {
        Ok((read, _)) if form == Form::Json => {
            Ok(json(&FlowList::new(&read.flows, read.total, read.untracked)))
        }
        Ok((read, order)) => Ok(html(StatusCode::OK, &Page::new(filters, &words, &order, read))),
        Err(problem) if form == Form::Html && problem.status == StatusCode::BAD_REQUEST => {
            filters.problem = Some(problem);
            let page = Page::new(filters, &words, &Order::default(), Read::default());
            Ok(html(StatusCode::BAD_REQUEST, &page))
        }
        Err(problem) => Err(problem),
    }
}

/// The order of the rows, and the first one.
struct Order {
    /// Of [`SORTS`].
    sort: &'static str,
    start: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self { sort: SORTS[0].0, start: 0 }
    }
}

impl Order {
    fn of(words: &[(String, String)]) -> Result<Self, Problem> {
        let mut order = Self::default();
        for (name, value) in words {
            match name.as_str() {
                "sort" => {
                    let known = SORTS.iter().find(|(word, _)| word == value);
                    order.sort = known.map(|(word, _)| *word).ok_or_else(|| {
                        let known = SORTS.map(|(word, _)| word).join(", ");
                        Problem::usage(
                            format!("unknown order {value:?}"),
                            Some(format!("known: {known}")),
                        )
                    })?;
                }
                "start" => {
                    order.start = value.parse().map_err(|_| {
                        Problem::usage(format!("start {value:?} is not a number"), None)
                    })?;
                }
                _ => {}
            }
        }
        Ok(order)
    }
}

/// What was read.
#[derive(Default)]
struct Read {
    /// The number of the flows that match.
    total: usize,
    /// A page of them.
    flows: Vec<LiveFlow>,
    /// Where none matches: the rules by which such traffic is untracked.
    untracked: Vec<Untracked>,
}

fn read(shared: &Shared, words: &[(String, String)], order: &Order) -> Result<Read, Problem> {
    let control = shared.control()?;
    let model = control.model()?;
    let names = Stored { control: &control, model: &model };
    let checked = filters::check(words, &OWN, &names)?;
    let flows = live_flows(&control, &model, |flow| checked.matches(&flow.subject()));
    let mut flows = match flows {
        Err(error) if error.is::<NothingAttached>() => Vec::new(),
        flows => flows?,
    };
    match order.sort {
        "packets" => flows.sort_by_key(|flow| Reverse(flow.packets())),
        "age" => flows.sort_by_key(|flow| flow.age),
        "idle" => flows.sort_by_key(|flow| flow.idle),
        _ => flows.sort_by_key(|flow| Reverse(flow.bytes())),
    }
    let total = flows.len();
    let untracked = if total == 0 { untracked(&control, &model, &checked)? } else { Vec::new() };
    let flows = flows.into_iter().skip(order.start).take(MAX_ROWS).collect();
    Ok(Read { total, flows, untracked })
}

impl Page {
    fn new(filters: Filters, words: &[(String, String)], order: &Order, read: Read) -> Self {
        let Order { sort, start } = *order;
        let Read { total, flows, untracked } = read;
        let at = |path: &str, sort: &str, start: usize| {
            let start = if start == 0 { String::new() } else { start.to_string() };
            link(path, words, &[("sort", sort), ("start", &start)])
        };
        let columns = SORTS.map(|(word, heading)| SortColumn {
            heading,
            link: at("flows", word, 0),
            is_sorted: word == sort,
            order: if matches!(word, "bytes" | "packets") { "descending" } else { "ascending" },
        });
        let end = start + flows.len();
        let summary = match (total, filters.is_used) {
            (0, true) => "No live flow matches.".to_owned(),
            (0, false) => "There is no live flow.".to_owned(),
            _ if flows.is_empty() => format!("There are {total} live flows and no more."),
            _ => format!("Flows {} to {end} of {total}.", start + 1),
        };
        Self {
            frame: Frame::new("Flows", at("flows.json", sort, start)),
            filters,
            clear: "flows",
            summary,
            untracked: untracked.iter().map(Untracked::text).collect(),
            columns: columns.into(),
            rows: flows.iter().map(Row::new).collect(),
            before: (start > 0).then(|| at("flows", sort, start.saturating_sub(MAX_ROWS))),
            after: (end < total && end > start).then(|| at("flows", sort, end)),
        }
    }
}

impl Row {
    fn new(flow: &LiveFlow) -> Self {
        let subject = flow.subject();
        let counted = flow.entry.flow;
        let protocol = protocol_name(flow.entry.protocol);
        let message = subject.icmp.map(|(kind, code)| texts::icmp(subject.protocol, kind, code));
        let (group, rule) = match &flow.admitted {
            Admitted::Rule { name, is_removed } => {
                let note = if *is_removed { " (deleted)" } else { "" };
                (name.group_name.clone(), format!("{}{note}", name.security_group_rule_id))
            }
            Admitted::Learned => (String::new(), "learned".to_owned()),
            Admitted::Exempt => (String::new(), "exempt".to_owned()),
            Admitted::Management => (String::new(), "management".to_owned()),
            Admitted::Unknown => (String::new(), "-".to_owned()),
        };
        Self {
            label: flow.place.label.clone(),
            direction: flow.entry.initiator().name(),
            protocol: message.map_or(protocol.clone(), |message| format!("{protocol} {message}")),
            from: texts::end(subject.source, subject.source_port, subject.protocol),
            to: texts::end(subject.destination, subject.destination_port, subject.protocol),
            state: flow.state.name(),
            bytes: format!("{}/{}", counted.bytes[0], counted.bytes[1]),
            packets: format!("{}/{}", counted.packets[0], counted.packets[1]),
            age: texts::seconds(flow.age),
            idle: texts::seconds(flow.idle),
            group,
            rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::hostile::{NAME, assert_escaped};

    #[test]
    fn names_of_interfaces_and_groups_are_text() {
        let name = || NAME.to_owned();
        let row = Row {
            label: name(),
            direction: "ingress",
            protocol: "tcp".to_owned(),
            from: name(),
            to: name(),
            state: "established",
            bytes: "1/2".to_owned(),
            packets: "1/2".to_owned(),
            age: "1s".to_owned(),
            idle: "1s".to_owned(),
            group: name(),
            rule: name(),
        };
        let words = [("group".to_owned(), name())];
        let filters = Filters::new(Of::Flows, &[], &words);
        let mut page = Page::new(filters, &words, &Order::default(), Read::default());
        (page.rows, page.untracked) = (vec![row], vec![name()]);
        let page = page.render().unwrap();
        assert_escaped(&page, "flows");
        // Label, both ends, group and rule of the row, the sentence, and the filter.
        assert_eq!(page.matches("&#60;script&#62;").count(), 7, "{page}");
    }

    #[test]
    fn links_of_rows_before_and_after_keep_the_filters_and_the_order() {
        let words = [("group", "web"), ("sort", "age"), ("start", "200")];
        let words = words.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let order = Order::of(&words).unwrap();
        assert_eq!((order.sort, order.start), ("age", 200));
        let filters = Filters::new(Of::Flows, &[], &words);
        let read = Read { total: 300, ..Read::default() };
        let page = Page::new(filters, &words, &order, read);
        assert_eq!(page.before.as_deref(), Some("flows?group=web&sort=age"));
        // Nothing is read behind the end.
        assert_eq!(page.after, None);
        assert_eq!(page.summary, "There are 300 live flows and no more.");
        assert_eq!(page.frame.json, "flows.json?group=web&sort=age&start=200");
        let sorted: Vec<_> = page.columns.iter().filter(|one| one.is_sorted).collect();
        assert!(matches!(&sorted[..], [one] if one.heading == "Age" && one.order == "ascending"));
    }
}
