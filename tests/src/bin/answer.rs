//! Answers one call to the EC2 API without a network, for tests that kill a call at any moment:
//! `answer FILE PROGRAM FORM`, with the environment of a command. The answer is written to the file.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use firewall_ec2::Params;
use firewall_user::api::{Access, Api, Caller};
use firewall_user::config::{Config, Paths};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().context("no file")?;
    let form = arguments.nth(1).context("no form")?;
    let path = |name: &str| env::var_os(name).map(PathBuf::from).context(name.to_owned());
    let paths = Paths {
        state_dir: path("SECGROUP_STATE_DIR")?,
        pin_dir: path("SECGROUP_PIN_DIR")?,
        config: Some(path("SECGROUP_CONFIG")?),
    };
    let config = Config::load(paths.config.as_deref())?;
    let caller = Caller { access: Access::Write, connection: None };
    let params = Params::parse(form.as_bytes()).context("read the form")?;
    let answer = Api::new(paths, config).answer(&caller, &params);
    fs::write(&file, format!("{} {}", answer.status, answer.body))
        .with_context(|| format!("write {file}"))
}
