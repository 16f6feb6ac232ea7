//! The rules of all groups, and what each is used for.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use crate::console::answer::{Form, Problem, html, json, with_type};
use crate::console::routes::{Asked, Shared};
use crate::console::texts;
use crate::console::view::{Frame, MAX_ROWS, link};
use crate::model::{Group, Model, Rule, RuleSpec, document, sorted_rules};
use crate::observe::hits::Hits;
use crate::observe::hits::document::RuleHitsList;

#[derive(Template)]
#[template(path = "rules.html")]
struct Page {
    frame: Frame,
    summary: String,
    /// Since when hits are counted, in one sentence.
    watched: String,
    /// Whether only rules without a hit are shown, and the link to the others.
    is_unused: bool,
    other: String,
    rows: Vec<Row>,
    before: Option<String>,
    after: Option<String>,
}

struct Row {
    id: String,
    group: String,
    group_id: String,
    direction: &'static str,
    protocol: String,
    ports: String,
    peer: String,
    description: String,
    packets: u64,
    flows: u64,
    first: String,
    last: String,
    /// Nothing used it since it is counted.
    is_unused: bool,
}

/// The words of the page.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    start: usize,
    /// The JSON is that of `secgroup rule list --hits`.
    hits: bool,
    /// Only rules without a hit.
    unused: bool,
}

/// The page, or the document of `secgroup rule list`, with `hits=true` that of `secgroup rule list --hits`.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Asked { form, words, .. } = asked;
    shared
        .read(move |shared| {
            let control = shared.control()?;
            let model = control.model()?;
            let mut groups: Vec<&Group> = model.groups.values().map(AsRef::as_ref).collect();
            groups.sort_by_key(|group| (group.name.to_ascii_lowercase(), &group.vpc));
            let choice = Choice::of(&words)?;
            let all = groups.iter().flat_map(|group| {
                let group = *group;
                group.rules.iter().map(move |rule| (group, rule))
            });
            if form == Form::Json && !choice.hits {
                let mut text = Vec::new();
                let document = document::rules(&shared.config().ec2, all);
                document.write(&mut text).map_err(anyhow::Error::from)?;
                return Ok(with_type("application/json", text));
            }
            // This process watches; what it wrote last is some seconds old.
            let hits = Hits::read(&control)?;
            if form == Form::Json {
                return Ok(json(&RuleHitsList::new(&hits, sorted_rules(groups))));
            }
            Ok(html(StatusCode::OK, &Page::new(&model, &groups, &hits, &words, choice)))
        })
        .await
}

impl Choice {
    fn of(words: &[(String, String)]) -> Result<Self, Problem> {
        let mut choice = Self::default();
        for (name, value) in words {
            match (name.as_str(), value.as_str()) {
                ("start", value) => {
                    let malformed =
                        |_| Problem::usage(format!("start {value:?} is not a number"), None);
                    choice.start = value.parse().map_err(malformed)?;
                }
                ("hits", "true" | "false") => choice.hits = value == "true",
                ("unused", "true" | "false") => choice.unused = value == "true",
                ("hits" | "unused", value) => {
                    let hint = "write true or false".to_owned();
                    return Err(Problem::usage(
                        format!("unknown value {value:?} of {name}"),
                        Some(hint),
                    ));
                }
                (name, _) => {
                    let hint = "known: start, hits, unused".to_owned();
                    return Err(Problem::usage(format!("unknown word {name:?}"), Some(hint)));
                }
            }
        }
        Ok(choice)
    }
}

impl Page {
    fn new(
        model: &Model,
        groups: &[&Group],
        hits: &Hits,
        words: &[(String, String)],
        choice: Choice,
    ) -> Self {
        let Choice { start, unused, .. } = choice;
        let mut all = sorted_rules(groups.iter().copied());
        if unused {
            all.retain(|(_, rule)| is_unused(hits, rule));
        }
        let total = all.len();
        let rows: Vec<Row> = all
            .into_iter()
            .skip(start)
            .take(MAX_ROWS)
            .map(|(group, rule)| Row::new(model, group, rule, hits))
            .collect();
        let end = start + rows.len();
        let at = |start: usize| {
            let start = if start == 0 { String::new() } else { start.to_string() };
            link("rules", words, &[("start", &start)])
        };
        Self {
            frame: Frame::new("Rules", "rules.json?hits=true"),
            watched: match hits.watched.periods() {
                [] => "Hits are not counted yet; `secgroup serve` counts them.".to_owned(),
                [.., last] => format!(
                    "Hits are counted without a gap since {} (UTC).",
                    texts::time(last.from)
                ),
            },
            is_unused: unused,
            other: if unused { "rules".to_owned() } else { "rules?unused=true".to_owned() },
            summary: match (total, rows.len()) {
                (0, _) if unused => "Every rule was used.".to_owned(),
                (0, _) => "There is no rule.".to_owned(),
                (_, 0) => format!("There are {total} rules and no more."),
                _ => format!("Rules {} to {end} of {total}.", start + 1),
            },
            before: (start > 0).then(|| at(start.saturating_sub(MAX_ROWS))),
            after: (end < total && end > start).then(|| at(end)),
            rows,
        }
    }
}

impl Row {
    fn new(model: &Model, group: &Group, rule: &Rule, hits: &Hits) -> Self {
        let RuleSpec { direction, traffic, peer } = &rule.spec;
        let known = hits.of(rule.number).copied().unwrap_or_default();
        Self {
            id: rule.id.to_string(),
            group: model.group_label(group),
            group_id: group.id.to_string(),
            direction: direction.name(),
            protocol: traffic.protocol_word(),
            ports: traffic.ports(),
            peer: model.peer_text(peer),
            description: rule.description.clone(),
            packets: known.packets,
            flows: known.new_flows,
            first: known.first.map_or_else(|| "-".to_owned(), texts::time),
            last: known.last.map_or_else(|| "-".to_owned(), texts::time),
            is_unused: is_unused(hits, rule),
        }
    }
}

/// Whether a rule is counted, and was not used since then.
fn is_unused(hits: &Hits, rule: &Rule) -> bool {
    hits.of(rule.number).is_some_and(|known| known.last.is_none())
}
