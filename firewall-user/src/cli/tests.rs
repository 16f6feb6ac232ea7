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
