//! docs/cli.md

use std::fmt::Write as _;

use clap::{Arg, Command};
use firewall_user::cli::{Exit, JsonDocument, command, documents};

use crate::markdown::{anchor, row, rule, sentence};
use crate::schema::fields;

pub(crate) fn page() -> String {
    let mut root = command().term_width(1000);
    root.build();
    let documents = documents();
    let mut text = format!(
        "# Commands\n\n\
         `secgroup COMMAND --help` prints the same for each command. Names of groups and prefix lists are \
         not\ncase-sensitive, and an id can be given in place of a name. Errors go to standard error: a \
         line with\nwhat failed, and a line with what to do.\n\n{}\n",
        crate::made_from("the declarations in `firewall-user/src/cli`")
    );
    let mut sections = String::new();
    add(&root, &mut text, &mut sections, &documents);
    text += "\n## Options of every command\n\n";
    text += &arguments(&root, Arg::is_global_set);
    text += "\n## Exit codes\n\n";
    text += &row(["code", "meaning"]);
    text += &rule(2);
    for exit in Exit::ALL {
        text += &row([(*exit as u8).to_string(), exit.help().to_owned()]);
    }
    text += &sections;
    text += "\n## JSON documents\n\n\
             What `--output json` and `secgroup export` print. Where AWS has such a document, it has the \
             form and\nthe field names of the AWS CLI. `SchemaVersion` changes when a field changes its \
             meaning or is removed,\nand not when one is added.\n";
    for JsonDocument { title, commands, schema, fields: only } in &documents {
        let commands: Vec<_> = commands.iter().map(|one| format!("`secgroup {one}`")).collect();
        let _ = write!(text, "\n### {title} in JSON\n\n{}:\n\n", commands.join(", "));
        text += &fields(schema.as_value(), only);
    }
    text
}

/// Adds a list entry and a section for every command below `parent` that does something.
fn add(parent: &Command, contents: &mut String, sections: &mut String, documents: &[JsonDocument]) {
    for command in parent.get_subcommands().filter(|one| is_shown(one)) {
        // Some do something without a subcommand, too: `block`.
        if command.is_subcommand_required_set() {
            add(command, contents, sections, documents);
            continue;
        }
        let name = command.get_bin_name().expect("commands are built");
        let about = command.get_about().expect("every command has a help text").to_string();
        let _ = writeln!(contents, "- [`{name}`](#{}): {about}", anchor(name));
        let long = command.get_long_about().map_or(about, ToString::to_string);
        let _ = write!(sections, "\n## {name}\n\n{}\n", sentence(&long));
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let _ = write!(sections, "\n```text\n{usage}\n```\n");
        let table = arguments(command, |arg| !arg.is_global_set());
        if !table.is_empty() {
            let _ = write!(sections, "\n{table}");
        }
        if let Some(help) = command.get_after_long_help().or(command.get_after_help()) {
            *sections += &paragraphs(&help.to_string());
        }
        let path = name.trim_start_matches("secgroup ");
        let own: Vec<_> = documents.iter().filter(|one| one.commands.contains(&path)).collect();
        for JsonDocument { title, .. } in &own {
            let heading = format!("{title} in JSON");
            let _ = write!(sections, "\nJSON: [{heading}](#{}).\n", anchor(&heading));
        }
        let has_output = command.get_arguments().any(|arg| arg.get_id() == "output");
        assert!(!has_output || !own.is_empty(), "{name}: no JSON document is declared");
        add(command, contents, sections, documents);
    }
}

fn is_shown(command: &Command) -> bool {
    command.get_name() != "help" && !command.is_hide_set()
}

/// A table of the arguments that `select` chooses.
fn arguments(command: &Command, select: impl Fn(&Arg) -> bool) -> String {
    let is_own = |arg: &&Arg| !["help", "version"].contains(&arg.get_id().as_str());
    let chosen = command.get_arguments().filter(is_own).filter(|arg| !arg.is_hide_set());
    let rows: String = chosen.filter(|arg| select(arg)).map(argument).collect();
    if rows.is_empty() {
        return rows;
    }
    row(["argument or option", "meaning"]) + &rule(2) + &rows
}

/// More values than these are listed without their meaning, which another page has.
const FEW: usize = 6;

fn argument(arg: &Arg) -> String {
    let help = arg.get_help().unwrap_or_else(|| panic!("{arg}: no help text")).to_string();
    // Defaults that clap does not know are in the help text, as clap prints those that it knows.
    let mut meaning = match help.strip_suffix(']').and_then(|text| text.rsplit_once(" [default: "))
    {
        Some((text, default)) => format!("{} Default: {default}.", sentence(text)),
        None => sentence(&help),
    };
    let defaults = arg.get_default_values();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let values: Vec<_> = defaults.iter().map(|one| format!("`{}`", one.display())).collect();
        let _ = write!(meaning, " Default: {}.", values.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(meaning, " Environment variable: `{}`.", variable.display());
    }
    let values =
        if arg.get_action().takes_values() { arg.get_possible_values() } else { Vec::new() };
    if !values.is_empty() {
        let value = |one: &clap::builder::PossibleValue| match one.get_help() {
            Some(help) if values.len() <= FEW => format!("`{}` ({help})", one.get_name()),
            _ => format!("`{}`", one.get_name()),
        };
        let values: Vec<_> = values.iter().map(value).collect();
        let separator = if values.len() <= FEW { "; " } else { ", " };
        let _ = write!(meaning, " Values: {}.", values.join(separator));
    }
    let required = if arg.is_required_set() && !arg.is_positional() { ", required" } else { "" };
    row([format!("`{arg}`{required}"), meaning])
}

/// The text below the options: indented lines are code.
fn paragraphs(help: &str) -> String {
    let mut text = String::new();
    let mut is_code = false;
    for line in help.lines() {
        let indented = line.strip_prefix("  ");
        if indented.is_some() && !is_code {
            text += "\n```text\n";
        } else if indented.is_none() && is_code {
            text += "```\n";
        } else if indented.is_none()
            && !line.is_empty()
            && (text.is_empty() || text.ends_with("```\n"))
        {
            text += "\n";
        }
        is_code = indented.is_some();
        let _ = writeln!(text, "{}", indented.unwrap_or(line));
    }
    if is_code {
        text += "```\n";
    }
    if text.starts_with('\n') { text } else { format!("\n{text}") }
}
