//! A host that has what commands can be refused for.

use crate::host::{Done, Host};

/// A host with a bit of everything; `{word}` in a case stands for what `word` is here.
pub(crate) struct Fixture {
    pub(crate) host: Host,
    words: Vec<(&'static str, String)>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let host = Host::new();
        let web = host.id(&["group", "create", "web", "--description", "web servers"]);
        let db = host.id(&["group", "create", "data base", "--description", "databases"]);
        let own = host.id(&["group", "create", "own", "--description", "names itself"]);
        let office = host.id(&[
            "prefix-list",
            "create",
            "office",
            "--family",
            "ipv4",
            "--entry",
            "192.0.2.0/24",
        ]);
        let six = host.id(&["prefix-list", "create", "six", "--family", "ipv6"]);
        let add = |args: &[&str]| host.id(&[&["rule", "add"], args].concat());
        let http =
            add(&["web", "ingress", "--protocol", "tcp", "--port", "80", "--cidr", "10.0.0.0/8"]);
        let sql =
            add(&["data base", "ingress", "--protocol", "tcp", "--port", "5432", "--group", "web"]);
        let back =
            add(&["data base", "egress", "--protocol", "udp", "--port", "53", "--group", "web"]);
        let vpn = add(&["web", "ingress", "--protocol", "50", "--prefix-list", "office"]);
        add(&["own", "ingress", "--protocol", "all", "--group", "own"]);
        host.attach("eth0", None, "web");
        host.attach("tap0", Some("vm1"), "web");
        let words = vec![
            ("web", web),
            ("db", db),
            ("own", own),
            ("office", office),
            ("six", six),
            ("http", http),
            ("sql", sql),
            ("back", back),
            ("vpn", vpn),
            ("long", "x".repeat(256)),
        ];
        Self { host, words }
    }

    /// What a word of a case stands for.
    pub(crate) fn word(&self, word: &str) -> String {
        self.filled(&format!("{{{word}}}"))
    }

    fn filled(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (word, value)| {
            text.replace(&format!("{{{word}}}"), value)
        })
    }

    /// Runs a command that must be refused, in these words, and must change nothing.
    #[track_caller]
    pub(crate) fn refuses(&self, args: &[&str], code: i32, stderr: &str) {
        let before = self.host.state();
        let args: Vec<_> = args.iter().map(|arg| self.filled(arg)).collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let stderr = format!("{}\n", self.filled(stderr));
        assert_eq!(self.host.run(&args), Done { code, stdout: String::new(), stderr }, "{args:?}");
        assert_eq!(self.host.state(), before, "{args:?}");
    }
}

pub(crate) const SEE_GROUPS: &str = "\nhint: `secgroup group list` shows the groups";
pub(crate) const SEE_LISTS: &str = "\nhint: `secgroup prefix-list list` shows the prefix lists";
pub(crate) const CHARACTERS: &str = "\nhint: use letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*";
