//! What an interface does with a packet, and why: a form with the words of `secgroup explain`.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use firewall_ebpf::abi::interface::Direction;

use crate::console::answer::{Form, Problem, html, json};
use crate::console::routes::{Asked, Shared};
use crate::console::view::{Frame, MAX_ROWS, link};
use crate::control::named::Named;
use crate::model::{Error, Interface, Model, label};
use crate::observe::capture::CaptureError;
use crate::observe::explain::{
    ExplainError, Explanation, Explanations, NoRecord, Question, Words, explain, number_of_record,
    of_record,
};

/// The words of the form, in its order, with label and example.
const WORDS: [(&str, &str, &str); 6] = [
    ("interface", "Interface", "eth0"),
    ("protocol", "Protocol", "tcp"),
    ("source", "Source", "192.0.2.7:51234"),
    ("destination", "Destination", "198.51.100.1:https"),
    ("icmp", "ICMP message", "echo-request"),
    ("tcp-flags", "TCP flags", "syn"),
];

/// The others: a choice, and the number of a record.
const DIRECTION: &str = "direction";
const FROM_DROP: &str = "from-drop";

#[derive(Template)]
#[template(path = "explain.html")]
struct Page {
    frame: Frame,
    fields: Vec<Field>,
    /// The names of the interfaces, which the form proposes.
    interfaces: Vec<String>,
    direction: String,
    directions: [&'static str; 2],
    /// The record that the packet is of.
    from_drop: String,
    problem: Option<Problem>,
    found: Option<Found>,
}

struct Field {
    name: &'static str,
    label: &'static str,
    example: &'static str,
    value: String,
}

/// An answer.
struct Found {
    verdict: &'static str,
    packet: String,
    /// Lines of a word and a text.
    lines: Vec<(String, String)>,
}

/// What is asked, by word.
struct Asking<'a>(&'a [(String, String)]);

impl<'a> Asking<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(word, _)| word == name);
        found.map(|(_, value)| value.as_str())
    }

    /// That every word is known.
    fn check(&self) -> Result<(), Problem> {
        let known = || WORDS.iter().map(|(name, ..)| *name).chain([DIRECTION, FROM_DROP]);
        match self.0.iter().find(|(word, _)| !known().any(|name| name == word)) {
            None => Ok(()),
            Some((word, _)) => {
                let known: Vec<&str> = known().collect();
                let hint = format!("known: {}", known.join(", "));
                Err(Problem::usage(format!("unknown word {word:?}"), Some(hint)))
            }
        }
    }
}

/// The page, or the document of `secgroup explain`.
pub(in crate::console) async fn answer(
    shared: &Arc<Shared>,
    asked: Asked,
) -> Result<Response, Problem> {
    let Asked { form, words, .. } = asked;
    if words.is_empty() && form == Form::Json {
        let hint = "name interface, direction, protocol, source and destination, or from-drop";
        return Err(Problem::usage("no packet is named", Some(hint.to_owned())));
    }
    shared
        .read(move |shared| {
            let control = shared.control()?;
            let model = control.model()?;
            let found = if words.is_empty() {
                Ok(None)
            } else {
                ask(shared, &control, &model, &Asking(&words)).map(Some)
            };
            match (form, found) {
                (Form::Json, Ok(Some(found))) => {
                    Ok(json(&Explanations::new(vec![found], Vec::new())))
                }
                (Form::Html, Ok(found)) => {
                    Ok(html(StatusCode::OK, &Page::new(&model, &words, None, found.as_ref())))
                }
                (Form::Html, Err(problem)) if problem.status.is_client_error() => {
                    let status = problem.status;
                    Ok(html(status, &Page::new(&model, &words, Some(problem), None)))
                }
                (_, Err(problem)) => Err(problem),
                (Form::Json, Ok(None)) => Err(Problem::not_found()),
            }
        })
        .await
}

/// Runs the packet through the programs of its interface.
fn ask(
    shared: &Shared,
    control: &crate::control::Control,
    model: &Model,
    words: &Asking<'_>,
) -> Result<Explanation, Problem> {
    words.check()?;
    if let Some(id) = words.get(FROM_DROP) {
        let malformed =
            || Problem::usage(format!("from-drop {id:?} is not the number of a record"), None);
        let (id, journal) = (number_of_record(id).ok_or_else(malformed)?, shared.journal()?);
        return of_record(control, model, &journal, id, false).map_err(|error| refused(&error));
    }
    let (interface, direction, question) = of_words(control, model, words)?;
    explain(control, interface, direction, &question).map_err(|error| refused(&error))
}

/// Where what is asked about is wrong, and not the host.
fn refused(error: &anyhow::Error) -> Problem {
    let (mut problem, status) = if let Some(error) = error.downcast_ref::<NoRecord>() {
        (Problem::of_words(error), StatusCode::NOT_FOUND)
    } else if let Some(error) = error.downcast_ref::<ExplainError>() {
        (Problem::of_words(error), StatusCode::CONFLICT)
    } else if let Some(error) = error.downcast_ref::<CaptureError>() {
        (Problem::usage(error.to_string(), None), StatusCode::CONFLICT)
    } else if let Some(error) = error.downcast_ref::<Error>() {
        (Problem::of_words(error), StatusCode::NOT_FOUND)
    } else {
        return Problem::failed(error);
    };
    problem.status = status;
    problem
}

fn of_words<'a>(
    control: &crate::control::Control,
    model: &'a Model,
    words: &Asking<'_>,
) -> Result<(&'a Interface, Direction, Question), Problem> {
    let word = |name: &str| {
        words.get(name).ok_or_else(|| Problem::usage(format!("the word {name} is missing"), None))
    };
    let named = Named::new(word("interface")?, None)
        .map_err(|error| Problem::usage(format!("{error:#}"), None))?;
    let interface = named.of(control.pins(), model);
    let interface = interface.map_err(|error| match error.downcast_ref::<Error>() {
        Some(error) => {
            let known: Vec<String> = model.interfaces.values().map(Interface::label).collect();
            let hint = error.hint().filter(|_| known.is_empty());
            let hint = hint.unwrap_or_else(|| format!("known: {}", known.join(", ")));
            Problem::usage(error.to_string(), Some(hint))
        }
        None => Problem::usage(format!("{error:#}"), None),
    })?;
    let direction = word(DIRECTION)?;
    let known = Direction::ALL.into_iter().find(|known| known.name() == direction);
    let known = known.ok_or_else(|| {
        let hint = "known: ingress, egress".to_owned();
        Problem::usage(format!("unknown direction {direction:?}"), Some(hint))
    })?;
    let packet = Words {
        protocol: word("protocol")?,
        source: word("source")?,
        destination: word("destination")?,
        icmp: words.get("icmp"),
        tcp_flags: words.get("tcp-flags"),
    };
    let packet = packet.packet().map_err(|error| Problem::of_words(&error))?;
    Ok((interface, known, Question::Packet(packet)))
}

impl Page {
    fn new(
        model: &Model,
        words: &[(String, String)],
        problem: Option<Problem>,
        found: Option<&Explanation>,
    ) -> Self {
        let of = Asking(words);
        let value = |name| of.get(name).unwrap_or_default().to_owned();
        let field = |(name, label, example)| Field { name, label, example, value: value(name) };
        let json = if found.is_some() { link("explain.json", words, &[]) } else { String::new() };
        Self {
            frame: Frame::new("Explain", json),
            fields: WORDS.map(field).into(),
            interfaces: model.interfaces.values().take(MAX_ROWS).map(Interface::label).collect(),
            direction: value(DIRECTION),
            directions: Direction::ALL.map(Direction::name),
            from_drop: value(FROM_DROP),
            problem,
            found: found.map(|found| Found {
                verdict: found.verdict,
                packet: format!(
                    "{} {} on {}",
                    found.direction,
                    found.packet.text,
                    label(&found.device, found.netns.as_deref())
                ),
                lines: lines(found),
            }),
        }
    }
}

/// The lines after the first one, which is the verdict; those without a word belong to the one before.
fn lines(found: &Explanation) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (word, text) in found.lines().into_iter().skip(1) {
        lines.push((word.to_owned(), text));
    }
    lines
}
