//! docs/config.md

use std::fmt::Write as _;

use firewall_user::config::{Config, DEFAULT_FILE};
use serde_json::Value;

use crate::markdown::{row, rule};
use crate::schema::properties;

pub(crate) fn page() -> String {
    let mut text = format!(
        "# Configuration\n\n\
         secgroup reads `{DEFAULT_FILE}` if it exists, or the file that `--config` or `SECGROUP_CONFIG`\n\
         names. The format is TOML. Every setting has a default; an unknown setting is an error. A command \
         reads\nthe file when it starts, `secgroup serve` also at SIGHUP.\n\n\
         ```toml\n[limits]\nrules_per_group = 100\n\n[maps]\nflows_tcp = 1048576\n```\n\n{}",
        crate::made_from("the declarations in `firewall-user/src/config.rs` and of `Limits`")
    );
    let schema = Config::schema();
    for (name, table) in properties(&schema) {
        let meaning = table["description"].as_str().expect("the meaning of a table");
        let _ = write!(text, "\n## [{name}]\n\n{}\n\n", meaning.replace('\n', " "));
        text += &row(["setting", "default", "bounds", "meaning"]);
        text += &rule(4);
        for (setting, value) in properties(table) {
            let default = &table["default"][setting];
            let default =
                if default.is_null() { &schema["default"][name][setting] } else { default };
            let default = if default.is_null() { &value["default"] } else { default };
            assert!(!default.is_null(), "{setting}: no default in {table:#}");
            let meaning = value["description"].as_str().expect("the meaning of a setting");
            text += &row([
                format!("`{setting}`"),
                default.to_string(),
                bounds(value),
                meaning.to_owned(),
            ]);
        }
    }
    text
}

fn bounds(setting: &Value) -> String {
    match (&setting["minimum"], &setting["maximum"]) {
        (Value::Number(min), Value::Number(max)) => format!("{min} to {max}"),
        (Value::Number(min), _) => format!("{min} or more"),
        _ if setting["type"] == "boolean" => "true or false".to_owned(),
        _ => "text".to_owned(),
    }
}
