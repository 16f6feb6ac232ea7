//! A real Prometheus server that scrapes the metrics.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Namespace, Process, http, root, sweep};

/// The address that it listens on, in the namespace of the test.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// A server that scrapes once a second until it is dropped.
pub struct Prometheus<'a> {
    namespace: &'a Namespace,
    // Dropped before the directory that it writes to.
    _process: Process,
    _directory: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts it in a namespace with one target and the alerts of `contrib`.
    #[must_use]
    pub fn scrape(namespace: &'a Namespace, target: SocketAddr) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}{}-", sweep::PREFIX, std::process::id()))
            .tempdir()
            .unwrap_or_else(|error| panic!("create a directory for Prometheus: {error}"));
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: secgroup, static_configs: [{{targets: ['{target}']}}]}}]\n",
            root().join("contrib/prometheus/rules.yml").display()
        );
        fs::write(&config, text)
            .unwrap_or_else(|error| panic!("write {}: {error}", config.display()));
        let mut command = Command::new(program("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .arg("--log.level=error");
        namespace.enter(&mut command);
        Self { namespace, _process: Process::start(command), _directory: directory }
    }

    /// The current value of an expression; none while the server does not reply or has no such
    /// series.
    #[must_use]
    pub fn value(&self, expression: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        // It starts to listen some time after it was started.
        let (status, body) = http::get_any_status(self.namespace, ADDRESS, &path).ok()?;
        let response: Value = serde_json::from_str(&body).ok()?;
        if status == 503 {
            return None;
        }
        assert_eq!(response["status"], "success", "query {expression}: {response:#}");
        let result = response["data"]["result"].as_array().cloned().unwrap_or_default();
        assert!(result.len() <= 1, "query {expression} has several results: {response:#}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }
}

/// Asserts that `promtool check metrics` reports nothing about a text of metrics.
pub fn check_metrics(text: &str) {
    let mut command = Command::new(program("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let mut input = child.stdin.take().expect("stdin is a pipe");
    input.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("write to promtool: {error}"));
    drop(input);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("promtool: {error}"));
    let messages = [output.stdout, output.stderr].concat();
    let messages = String::from_utf8_lossy(&messages);
    assert!(
        output.status.success() && messages.is_empty(),
        "promtool: {}\n{messages}{text}",
        output.status
    );
}

/// Asserts that the tests of alerts hold (`promtool test rules`). `file` is relative to the root of the repository.
pub fn test_rules(file: &str) {
    let output = crate::process::output(
        Command::new(program("promtool")).args(["test", "rules"]).arg(root().join(file)),
    );
    assert!(output.contains("SUCCESS"), "promtool test rules {file}: {output}");
}

/// The program that `cargo xtask setup` unpacked, otherwise the one in `PATH`.
fn program(name: &str) -> PathBuf {
    let unpacked = root().join("target/tools/prometheus/usr/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = [unpacked].into_iter().chain(env::split_paths(&path));
    let found = places.find_map(|place| Some(place.join(name)).filter(|file| file.is_file()));
    found.unwrap_or_else(|| {
        panic!("no {name}, neither in target/tools nor in PATH: `cargo xtask setup` unpacks it")
    })
}

/// Percent-encodes an expression for a URL.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn an_expression_is_percent_encoded() {
        assert_eq!(encoded(r#"up{job="a b"}"#), "up%7Bjob%3D%22a%20b%22%7D");
    }
}
