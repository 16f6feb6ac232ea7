//! Access keys of the EC2 API, as a user creates and deletes them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::host::Host;

#[test]
fn a_key_is_printed_once_as_a_profile_of_the_aws_cli() {
    let host = Host::new();
    assert_eq!(host.ok(&["key", "list"]), "KEY  ACCESS  CREATED  DESCRIPTION\n");
    let printed = host.ok(&["key", "create", "--description", "terraform"]);
    let lines: Vec<&str> = printed.lines().collect();
    let [profile, id, secret, region] = lines[..] else { panic!("{printed}") };
    assert_eq!((profile, region), ("[secgroup]", "region = local"));
    let id = id.strip_prefix("aws_access_key_id = ").unwrap();
    let secret = secret.strip_prefix("aws_secret_access_key = ").unwrap();
    assert_eq!((id.len(), secret.len()), (20, 40));
    let json = host.ok(&["key", "create", "--read-only", "--output", "json"]);
    let created: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(created["AccessKey"]["Access"], "read-only");

    let listed = host.ok(&["key", "list"]);
    let rows: Vec<&str> = listed.lines().skip(1).collect();
    assert!(rows[0].starts_with(&format!("{id}  read-write  2")), "{listed}");
    assert!(rows[0].ends_with("Z  terraform") && rows[1].contains("  read-only   2"), "{listed}");
    assert!(!host.ok(&["key", "list", "--output", "json"]).contains("Secret"));
    host.ok(&["key", "delete", id]);
    assert_eq!(host.ok(&["key", "list"]).lines().count(), 2);
}

#[test]
fn keys_are_refused_where_they_cannot_be_used() {
    let host = Host::new();
    let done = host.run(&["key", "delete", "AKIAQQQQQQQQQQQQQQQQ"]);
    assert_eq!(done.code, 3);
    assert_eq!(
        done.stderr,
        "error: delete key AKIAQQQQQQQQQQQQQQQQ: access key AKIAQQQQQQQQQQQQQQQQ does not exist\n\
         hint: `secgroup key list` shows the keys\n"
    );
    let done = host.run(&["key", "create", "--description", &"x".repeat(256)]);
    assert_eq!(done.code, 2, "{done:?}");
    assert_eq!(
        done.stderr,
        "error: create key: description has more than 255 characters, or control characters\n"
    );
    host.ok(&["key", "create"]);
    let file = host.state_dir().join("keys.json");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let done = host.run(&["key", "list"]);
    let path = file.display();
    assert_eq!(done.code, 1);
    assert_eq!(
        done.stderr,
        format!(
            "error: list keys: access keys: {path} may be read by others (mode 0644)\n\
             hint: a user who has read it has the secret: replace it if that may be, and `chmod go= {path}`\n"
        )
    );
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "{}").unwrap();
    let done = host.run(&["key", "create"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("keys.json is malformed: missing field `Keys`"), "{done:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
}
