//! What botocore signs, in every form.

use secgroup_tests::ec2::{Key, python, serve};
use secgroup_tests::process::output;
use secgroup_tests::{Namespace, Secgroup};

#[test]
fn what_botocore_signs_is_answered_and_nothing_else() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let _server = serve(&secgroup, "");
    let mut python = python(&host, "signatures.py");
    python.arg("http://127.0.0.1:8773").arg(&key.id).arg(&key.secret);
    assert_eq!(output(&mut python), "done\n");
}
