//! The rooms of a source tree depend on each other in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use secgroup_tests::root;

/// A source tree that is divided into rooms: the files and directories directly below it.
struct Tree {
    /// Its directory, from the top of the repository.
    directory: &'static str,
    /// Its module in the crate; empty for the crate itself.
    module: &'static [&'static str],
    /// From the bottom up. A room may use itself and the rooms on the lines above its own. Empty for one
    /// room, of which only the files are checked.
    rooms: &'static [&'static [&'static str]],
    /// Files that belong to no room.
    roots: &'static [&'static str],
    /// Whether the files of one room, too, are free of circles.
    acyclic_files: bool,
}

const TREES: &[Tree] = &[
    Tree {
        directory: "firewall-ebpf/src",
        module: &[],
        rooms: &[&["abi"], &["wire"], &["verdict"], &["backend"], &["bench"]],
        roots: &["lib", "main"],
        // In `backend/bpf` the tables call BPF functions that are in one file, and these use the tables.
        acyclic_files: false,
    },
    Tree {
        directory: "firewall-ebpf/src/abi",
        module: &["abi"],
        rooms: &[],
        roots: &[],
        acyclic_files: true,
    },
    Tree {
        directory: "firewall-ebpf/src/wire",
        module: &["wire"],
        rooms: &[],
        roots: &[],
        acyclic_files: true,
    },
    Tree {
        directory: "firewall-ebpf/src/verdict",
        module: &["verdict"],
        rooms: &[],
        roots: &[],
        acyclic_files: true,
    },
    Tree {
        directory: "firewall-user/src/dataplane",
        module: &["dataplane"],
        rooms: &[
            &["error"],
            &["pins"],
            &["sys"],
            &["object"],
            &["host"],
            &["tables"],
            &["records"],
            &["hooks", "flows"],
            &["explain"],
            &["instance"],
        ],
        roots: &[],
        acyclic_files: true,
    },
];

#[test]
fn a_room_uses_only_rooms_below_it() {
    for tree in TREES.iter().filter(|tree| !tree.rooms.is_empty()) {
        let wrong = tree.wrong_arrows(&tree.files());
        assert!(wrong.is_empty(), "{}: arrows up or across:\n{}", tree.directory, wrong.join("\n"));
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for tree in TREES.iter().filter(|tree| tree.acyclic_files) {
        if let Some(circle) = circle(&tree.imports(&tree.files())) {
            panic!("{}: these files import each other: {}", tree.directory, circle.join(" -> "));
        }
    }
}

#[test]
fn every_form_of_a_path_is_found() {
    let code = "use crate::a::{self, b::{c, D as E}, f::*};\nuse super::{g, super::h};\n\
                // crate::comment\npub(in crate::a) fn i() -> crate::j::K { self::l::m() }\n\
                fn n() { other::crate_like::x(); mycrate::y(); a::super::z }\n\
                #[cfg(test)]\nmod tests {\n    use crate::only_in_tests;\n}\n";
    let found: Vec<String> = paths(code, &["x", "y"]).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a", "a::b::c", "a::b::D", "a::f", "x::g", "h", "a", "j::K", "x::y::l::m"]);
}

#[test]
fn an_arrow_up_across_or_around_is_found() {
    let tree = Tree {
        directory: "",
        module: &[],
        rooms: &[&["abi"], &["wire"], &["left", "right"]],
        roots: &["lib"],
        acyclic_files: true,
    };
    let file = |name: &str, code: &str| (name.to_owned(), code.to_owned());
    let files: Vec<(String, String)> = vec![
        file("lib", "pub mod abi;"),
        file("abi", "use crate::wire::parse;"),
        file("wire", "use crate::abi::Key;"),
        file("wire/parse", "use super::super::abi; use crate::wire::tcp;"),
        file("wire/tcp", "use super::parse::x;"),
        file("left", "use crate::right::y; use crate::wire::parse::{z};"),
        file("right", ""),
    ];
    assert_eq!(tree.wrong_arrows(&files), ["abi uses wire/parse", "left uses right"]);
    let found = circle(&tree.imports(&files)).unwrap();
    assert!(
        ["abi -> wire/parse -> abi", "wire/parse -> abi -> wire/parse"]
            .contains(&found.join(" -> ").as_str()),
        "{found:?}"
    );
    let files = &files[2..];
    assert_eq!(circle(&tree.imports(files)).unwrap(), ["wire/parse", "wire/tcp", "wire/parse"]);
    assert_eq!(circle(&tree.imports(&files[3..])), None);
}

impl Tree {
    /// The files by their paths without the extension, with their code.
    fn files(&self) -> Vec<(String, String)> {
        let directory = root().join(self.directory);
        let mut files = Vec::new();
        collect(&directory, &directory, &mut files);
        assert!(files.len() > 3, "no sources in {}", self.directory);
        files
    }

    /// The files of the tree that each file imports.
    fn imports(&self, files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
        let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let imports = |(name, code): &(String, String)| {
            let module: Vec<&str> = if self.roots.contains(&name.as_str()) {
                self.module.to_vec()
            } else {
                self.module.iter().copied().chain(name.split('/')).collect()
            };
            let used = paths(code, &module);
            let used = used.iter().filter_map(|path| self.file(path, &names));
            (name.clone(), used.filter(|used| used != name).collect())
        };
        files.iter().map(imports).collect()
    }

    /// The file that an item is in: the longest part of its path that is one.
    fn file(&self, path: &[String], names: &BTreeSet<&str>) -> Option<String> {
        let module = self.module.iter().zip(path);
        if path.len() < self.module.len() || module.into_iter().any(|(own, part)| own != part) {
            return None;
        }
        let below = &path[self.module.len()..];
        let mut parts = (1..=below.len()).rev().map(|length| below[..length].join("/"));
        parts.find(|name| names.contains(name.as_str()))
    }

    fn wrong_arrows(&self, files: &[(String, String)]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (file, used) in self.imports(files) {
            let Some((room, own)) = self.level(&file) else { continue };
            for used in used {
                if let Some((used_room, level)) = self.level(&used)
                    && used_room != room
                    && level >= own
                {
                    wrong.push(format!("{file} uses {used}"));
                }
            }
        }
        wrong
    }

    /// The room of a file and its level; `None` for a root.
    fn level<'a>(&self, file: &'a str) -> Option<(&'a str, usize)> {
        let room = file.split('/').next().unwrap_or(file);
        if self.roots.contains(&room) {
            return None;
        }
        let level = self.rooms.iter().position(|rooms| rooms.contains(&room));
        let level = level.unwrap_or_else(|| panic!("{}: give {room} a place", self.directory));
        Some((room, level))
    }
}

fn collect(directory: &Path, base: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("list a source directory") {
        let path = entry.expect("list a source directory").path();
        if path.is_dir() {
            collect(&path, base, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(base).expect("a path below the base").with_extension("");
            let code = fs::read_to_string(&path).expect("read a source file");
            files.push((name.to_str().expect("a name in UTF-8").to_owned(), code));
        }
    }
}

/// A circle of imports, if there is one: its first file is also its last.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| search(imports, file, &mut Vec::new(), &mut done))
}

fn search(
    imports: &BTreeMap<String, BTreeSet<String>>,
    file: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|earlier| earlier == file) {
        return Some(path[start..].iter().cloned().chain([file.to_owned()]).collect());
    }
    if done.contains(file) {
        return None;
    }
    path.push(file.to_owned());
    let found = imports.get(file).into_iter().flatten();
    let found = found.into_iter().find_map(|used| search(imports, used, path, done));
    path.pop();
    done.insert(file.to_owned());
    found
}

/// The absolute paths in the code of a module: those that begin with `crate`, `super` or `self`, in
/// imports and elsewhere. Comments and the module of unit tests do not count.
fn paths(code: &str, module: &[&str]) -> Vec<Vec<String>> {
    let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<&str> =
        code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let tokens = tokens(&code.join("\n"));
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let is_start = ["crate", "super", "self"].contains(&tokens[at].as_str())
            && (at == 0 || tokens[at - 1] != "::")
            && tokens.get(at + 1).is_some_and(|next| next == "::");
        if is_start {
            let mut paths = Vec::new();
            at = tree(&tokens, at, Vec::new(), &mut paths);
            found.extend(paths.into_iter().map(|path| absolute(&path, module)));
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the tree of paths that begins at a token; returns the position after it.
fn tree(
    tokens: &[String],
    mut at: usize,
    mut prefix: Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, prefix.clone(), paths);
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            Some("*") => {
                paths.push(prefix);
                return at + 1;
            }
            Some(word) => {
                // `self` in a list is the path before it.
                if word != "self" || prefix.is_empty() {
                    prefix.push(word.to_owned());
                }
                at += 1;
            }
            None => return at,
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            paths.push(prefix);
            return at;
        }
        at += 1;
    }
}

/// A path from the crate's root.
fn absolute(path: &[String], module: &[&str]) -> Vec<String> {
    let mut absolute: Vec<String> = module.iter().map(|&part| part.to_owned()).collect();
    for part in path {
        match part.as_str() {
            "crate" => absolute.clear(),
            "super" => drop(absolute.pop()),
            "self" => {}
            part => absolute.push(part.to_owned()),
        }
    }
    absolute
}

/// Words, `::`, and every other character that is no white space.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(first) = characters.next() {
        let mut token = String::from(first);
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        if is_word(first) {
            while let Some(next) = characters.next_if(|next| is_word(*next)) {
                token.push(next);
            }
        } else if first == ':' {
            token.extend(characters.next_if_eq(&':'));
        } else if first.is_whitespace() {
            continue;
        }
        tokens.push(token);
    }
    tokens
}
