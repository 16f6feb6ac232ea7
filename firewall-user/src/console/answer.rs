//! Answers: a page, or the same as a JSON document.

use std::borrow::Cow;

use anyhow::Error;
use askama::Template;
use axum::body::Body;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::explain::Explain;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Json,
}

impl Form {
    /// By the path, which ends with `.json`, or by `Accept`, which names JSON and not HTML.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut html, mut json) = (false, false);
        for value in accepted {
            html |= value.contains("text/html");
            json |= value.contains("application/json");
        }
        if path.ends_with(".json") || (json && !html) { Self::Json } else { Self::Html }
    }
}

/// Why a request has no other answer.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// One sentence.
    pub(super) error: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

/// The JSON form of a problem.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProblemDocument<'a> {
    error: &'a str,
    hint: Option<&'a str>,
}

impl Problem {
    pub(super) fn method() -> Self {
        let error = "the console only shows".to_owned();
        let hint = Some("use GET; commands of secgroup change something".to_owned());
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error, hint }
    }

    pub(super) fn forbidden(error: &str, hint: &str) -> Self {
        let (error, hint) = (error.to_owned(), Some(hint.to_owned()));
        Self { status: StatusCode::FORBIDDEN, error, hint }
    }

    pub(super) fn not_found() -> Self {
        let error = "there is no such page".to_owned();
        let hint = Some("the pages are /, /drops, /flows, /rules and /explain".to_owned());
        Self { status: StatusCode::NOT_FOUND, error, hint }
    }

    pub(super) fn busy() -> Self {
        let error = "too many requests at the same time".to_owned();
        let hint = Some("close other windows of the console, or try again".to_owned());
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error, hint }
    }

    /// A parameter that cannot be understood.
    pub(super) fn usage(error: impl Into<String>, hint: Option<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.into(), hint }
    }

    /// An error of the user's words, with the hint of the innermost cause that has one.
    pub(super) fn of_words(error: &(impl Explain + ?Sized)) -> Self {
        Self::usage(error.to_string(), error.hint().map(Cow::into_owned))
    }

    /// A reading that failed.
    pub(super) fn failed(error: &Error) -> Self {
        let hint = Some("`secgroup status` on the host may say more".to_owned());
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: format!("{error:#}"), hint }
    }

    /// Its answer where there is no page around it.
    pub(super) fn answer(&self, form: Form) -> Response {
        let Self { status, error, hint } = self;
        let mut response = match form {
            Form::Json => json(&ProblemDocument { error, hint: hint.as_deref() }),
            Form::Html => {
                let hint = hint.as_ref().map_or_else(String::new, |hint| format!("hint: {hint}\n"));
                with_type("text/plain; charset=utf-8", format!("error: {error}\n{hint}"))
            }
        };
        *response.status_mut() = *status;
        if *status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::failed(&error)
    }
}

/// A page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else {
        let error = "the page cannot be written".to_owned();
        let problem = Problem { status: StatusCode::INTERNAL_SERVER_ERROR, error, hint: None };
        return problem.answer(Form::Html);
    };
    let mut response = with_type("text/html; charset=utf-8", text);
    *response.status_mut() = status;
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// A document, as a command prints it.
pub(super) fn json(document: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(document) {
        Ok(text) => {
            let mut response = with_type("application/json", text + "\n");
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            response
        }
        Err(error) => Problem::failed(&error.into()).answer(Form::Html),
    }
}

pub(super) fn with_type(kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_path_or_of_accept() {
        for (path, accept, form) in [
            ("/drops", "text/html,application/xhtml+xml,*/*;q=0.8", Form::Html),
            ("/drops", "*/*", Form::Html),
            ("/drops", "application/json", Form::Json),
            ("/drops", "text/html, application/json", Form::Html),
            ("/drops.json", "text/html", Form::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::of(path, &headers), form, "{path} {accept}");
        }
    }
}
