use clap::ValueEnum;
use firewall_ebpf::abi::flow::Tier;
use firewall_ebpf::abi::interface::{Direction, NonIp, Orientation, TcpChecks};
use firewall_ebpf::abi::state::State;

use super::*;
use crate::model::{Action, Family, HookChoice, Mode, Tracking};

fn check<T: ValueEnum + Copy>(name: fn(T) -> &'static str) {
    for value in T::value_variants() {
        let possible = value.to_possible_value().unwrap();
        assert_eq!(possible.get_name(), name(*value));
    }
}

#[test]
fn values_of_options_are_the_names_in_documents_and_the_store() {
    check(Action::name);
    check(Direction::name);
    check(Family::name);
    check(HookChoice::name);
    check(Mode::name);
    check(NonIp::name);
    check(Orientation::name);
    check(State::name);
    check(TcpChecks::name);
    check(Tier::name);
    check(Tracking::name);
}

/// A pipe whose reader is gone.
struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::EPIPE))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_is_gone_is_no_failure_of_text_or_json() {
    let text = io::Write::write_all(&mut Closed, b"x").unwrap_err();
    let json = serde_json::to_writer(Closed, "x").unwrap_err();
    for error in [anyhow::Error::new(text), anyhow::Error::new(json)] {
        assert!(broken_pipe(&error.context("drops")));
    }
    let other = serde_json::from_str::<u8>("x").unwrap_err();
    assert!(!broken_pipe(&anyhow::Error::new(other)));
}

#[test]
fn the_commands_are_consistent() {
    command().debug_assert();
}

#[test]
fn lines_of_help_fit_into_100_characters() {
    fn check(command: &mut clap::Command) {
        let help = command.render_long_help().to_string();
        // clap does not wrap the usage.
        for line in help.lines().filter(|line| !line.starts_with("Usage: ")) {
            assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
        }
        command.get_subcommands_mut().for_each(check);
    }
    check(&mut command().term_width(100));
}
