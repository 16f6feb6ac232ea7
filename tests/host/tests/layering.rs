//! The modules of userspace depend on each other in one direction, one module reaches the kernel, and
//! the policy crate does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use secgroup_tests::root;

const SOURCE: &str = "firewall-user/src";
const POLICY: &str = "firewall-user/policy/src";

/// From the bottom up. A module may use itself and what stands on a line above its own. `lib.rs`
/// re-exports the policy crate as `policy`, and its `model`.
const LAYERS: [&[&str]; 10] = [
    &["model", "policy"],
    &["clock", "explain", "journal"],
    &["ownership"],
    &["dataplane", "http", "store"],
    &["config"],
    &["control"],
    &["observe"],
    &["telemetry"],
    &["api", "console"],
    &["cli"],
];

/// The paths by which the kernel is reached, and the module that does.
const KERNEL: ([&str; 2], &str) = (["aya::", "aya_log::"], "dataplane");

#[test]
fn modules_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for File { name, module, code } in sources(SOURCE) {
        let own = layer(&module);
        for used in used_modules(&code) {
            if used != module && layer(used) >= own {
                wrong.push(format!("{name}: {module} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "dependencies point one way; these do not:\n{}", wrong.join("\n"));
}

#[test]
fn one_module_talks_to_the_kernel() {
    let (paths, door) = KERNEL;
    let mut wrong = Vec::new();
    for File { name, module, code } in sources(SOURCE) {
        if module != door && paths.iter().any(|path| after(&code, path).next().is_some()) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "only {door} uses {paths:?}, but so do {}", wrong.join(", "));
}

/// Paths of I/O, of the kernel and of the store.
const NOT_PURE: [&str; 12] = [
    "aya::",
    "rusqlite::",
    "nix::",
    "libc::",
    "tokio::",
    "fs::",
    "process::",
    "env::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

#[test]
fn the_policy_crate_does_no_io() {
    let mut wrong = Vec::new();
    for File { name, code, .. } in sources(POLICY) {
        for path in NOT_PURE.iter().filter(|path| after(&code, path).next().is_some()) {
            wrong.push(format!("{name} uses {path}"));
        }
    }
    assert!(wrong.is_empty(), "{POLICY} is pure; this is not:\n{}", wrong.join("\n"));
}

#[test]
fn the_policy_crate_depends_on_nothing_that_does_io() {
    let manifest = root().join(POLICY).join("../Cargo.toml");
    let text = fs::read_to_string(manifest).expect("read the manifest of the policy crate");
    let manifest: toml::Table = text.parse().expect("a manifest");
    let dependencies = manifest["dependencies"].as_table().expect("a table").iter();
    // Optional ones are derives for what userspace adds to the types.
    let is_optional = |entry: &toml::Value| entry.get("optional").is_some();
    let pure = [
        "arrayvec",
        "firewall-ebpf",
        "getrandom",
        "hashbrown",
        "ipnet",
        // Without its features, it has times and no clock.
        "jiff",
        "serde",
        "serde_json",
        "serde_path_to_error",
        "thiserror",
        "xxhash-rust",
    ];
    let needed = dependencies.filter(|(_, entry)| !is_optional(entry)).map(|(name, _)| name);
    let wrong: Vec<_> = needed.filter(|name| !pure.contains(&name.as_str())).collect();
    assert!(wrong.is_empty(), "the policy crate builds anywhere; are these pure? {wrong:?}");
}

#[test]
fn modules_of_the_policy_crate_form_no_circle() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for File { module, code, .. } in sources(POLICY) {
        let used = used_modules(&code).into_iter().filter(|used| *used != module);
        uses.entry(module.clone()).or_default().extend(used.map(str::to_owned));
    }
    // Modules that use nothing that is left are removed; what remains is on a circle or uses one.
    while let Some(lowest) = uses.iter().find(|(_, used)| used.is_empty()).map(|(name, _)| name) {
        let lowest = lowest.clone();
        uses.remove(&lowest);
        for used in uses.values_mut() {
            used.remove(&lowest);
        }
    }
    assert!(uses.is_empty(), "these modules use each other in a circle: {uses:?}");
}

#[test]
fn uses_are_found_in_every_form() {
    let code = "use crate::model::{Group, Rule};\nuse crate::{\n  config::{A, B},\n  store,\n};\n\
                fn f() -> crate::policy::P { my_crate::other::f() }\n";
    assert_eq!(used_modules(code), ["model", "config", "store", "policy"]);
}

/// One file of userspace.
struct File {
    name: String,
    module: String,
    /// Without comments, which may name any module.
    code: String,
}

fn sources(directory: &str) -> Vec<File> {
    let mut paths = Vec::new();
    collect(&root().join(directory), &mut paths);
    let files: Vec<File> = paths.iter().map(|path| read(directory, path)).collect();
    // `lib.rs` and `main.rs` name the modules and are none themselves.
    let files: Vec<File> =
        files.into_iter().filter(|file| !["lib", "main"].contains(&file.module.as_str())).collect();
    assert!(files.len() > 10, "no sources in {directory}");
    files
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("list a source directory") {
        let path = entry.expect("list a source directory").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(directory: &str, path: &Path) -> File {
    let below = path.strip_prefix(root().join(directory)).expect("a path below the sources");
    let name = below.display().to_string();
    let text = fs::read_to_string(path).expect("read a source file");
    let code: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let first = name.split('/').next().unwrap_or(&name);
    File { module: first.trim_end_matches(".rs").to_owned(), code: code.join("\n"), name }
}

/// How high a module stands.
fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("give the module {module} a place in LAYERS"))
}

/// The modules of the crate that code names, in `crate::module` and in `crate::{module, …}`.
fn used_modules(code: &str) -> Vec<&str> {
    after(code, "crate::")
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        })
        .map(identifier)
        // `crate::Type` and `crate::CONSTANT` would be items of `lib.rs`.
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect()
}

/// The entries of a list that a brace closes, lists within them left whole.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut entries) = (0, 0, Vec::new());
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                entries.push(list[start..index].trim_start());
                start = index + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    entries
}

/// What follows each occurrence of a path's beginning that is not the end of another word.
fn after<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(path).filter_map(move |(index, _)| {
        let before = code[..index].chars().next_back();
        let is_word = before.is_some_and(|before| before.is_alphanumeric() || before == '_');
        (!is_word).then(|| &code[index + path.len()..])
    })
}

fn identifier(text: &str) -> &str {
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_');
    &text[..end.unwrap_or(text.len())]
}
