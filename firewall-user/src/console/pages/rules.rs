//! The rules of all groups.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use crate::console::answer::{Form, Problem, html, with_type};
use crate::console::routes::{Asked, Shared};
use crate::console::view::{Frame, MAX_ROWS, link};
use crate::model::{Group, Model, Rule, RuleSpec, document};

#[derive(Template)]
#[template(path = "rules.html")]
struct Page {
    frame: Frame,
    summary: String,
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
}

/// The page, or the document of `secgroup rule list`.
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
            let start = start(&words)?;
            match form {
                Form::Json => {
                    let rules = groups.iter().flat_map(|group| {
                        let group = *group;
                        group.rules.iter().map(move |rule| (group, rule))
                    });
                    let document = document::rules(&shared.config().ec2, rules);
                    let mut text = Vec::new();
                    document.write(&mut text).map_err(anyhow::Error::from)?;
                    Ok(with_type("application/json", text))
                }
                Form::Html => Ok(html(StatusCode::OK, &Page::new(&model, &groups, &words, start))),
            }
        })
        .await
}

fn start(words: &[(String, String)]) -> Result<usize, Problem> {
    let mut start = 0;
    for (name, value) in words {
        if name != "start" {
            return Err(Problem::usage(
                format!("unknown word {name:?}"),
                Some("known: start".to_owned()),
            ));
        }
        let malformed = |_| Problem::usage(format!("start {value:?} is not a number"), None);
        start = value.parse().map_err(malformed)?;
    }
    Ok(start)
}

impl Page {
    fn new(model: &Model, groups: &[&Group], words: &[(String, String)], start: usize) -> Self {
        let mut all: Vec<(&Group, &Rule)> = Vec::new();
        for group in groups {
            let mut rules: Vec<&Rule> = group.rules.iter().collect();
            rules.sort_by(|one, two| one.spec.cmp(&two.spec));
            all.extend(rules.into_iter().map(|rule| (*group, rule)));
        }
        let total = all.len();
        let rows: Vec<Row> = all
            .into_iter()
            .skip(start)
            .take(MAX_ROWS)
            .map(|(group, rule)| Row::new(model, group, rule))
            .collect();
        let end = start + rows.len();
        let at = |start: usize| {
            let start = if start == 0 { String::new() } else { start.to_string() };
            link("rules", words, &[("start", &start)])
        };
        Self {
            frame: Frame::new("Rules", "rules.json"),
            summary: match (total, rows.len()) {
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
    fn new(model: &Model, group: &Group, rule: &Rule) -> Self {
        let RuleSpec { direction, traffic, peer } = &rule.spec;
        let protocol = traffic.protocol();
        Self {
            id: rule.id.to_string(),
            group: model.group_label(group),
            group_id: group.id.to_string(),
            direction: direction.name(),
            protocol: if protocol == "-1" { "all".to_owned() } else { protocol },
            ports: traffic.ports(),
            peer: model.peer_text(peer),
            description: rule.description.clone(),
        }
    }
}
