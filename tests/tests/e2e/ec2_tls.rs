//! The EC2 API over TLS, and the certificate's files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use secgroup_tests::ec2::{Key, python, serve};
use secgroup_tests::process::output;
use secgroup_tests::{Namespace, Secgroup};
use tempfile::TempDir;

/// Writes a new certificate for 127.0.0.1 and its key.
fn write_certificate(directory: &Path) {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.unwrap();
    fs::write(directory.join("cert.pem"), cert.pem()).unwrap();
    let key = directory.join("key.pem");
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
}

fn options(directory: &Path) -> String {
    let file = |name| directory.join(name).display().to_string();
    format!("--ec2-tls-cert {} --ec2-tls-key {}", file("cert.pem"), file("key.pem"))
}

#[test]
fn botocore_trusts_the_certificate_and_the_new_one_after_a_hangup() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let key = Key::create(&secgroup, "");
    let directory = TempDir::new().unwrap();
    write_certificate(directory.path());
    let server = serve(&secgroup, &options(directory.path()));
    assert!(server.lines().iter().any(|line| line.contains("EC2 API at https://127.0.0.1:8773")));
    let call = || {
        let mut python = python(&host, "identity.py");
        python.arg("https://127.0.0.1:8773").arg(&key.id).arg(&key.secret);
        python.arg(directory.path().join("cert.pem"));
        output(&mut python)
    };
    assert_eq!(call(), "000000000000\n");
    let hangup = || kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGHUP);
    write_certificate(directory.path());
    hangup().unwrap();
    server.wait_for_output("ec2: certificate reloaded");
    assert_eq!(call(), "000000000000\n");
    fs::write(directory.path().join("cert.pem.new"), "nothing").unwrap();
    let valid = fs::read(directory.path().join("cert.pem")).unwrap();
    fs::rename(directory.path().join("cert.pem.new"), directory.path().join("cert.pem")).unwrap();
    hangup().unwrap();
    server.wait_for_output("ec2: certificate not reloaded, the earlier one stays: ");
    fs::write(directory.path().join("cert.pem"), valid).unwrap();
    assert_eq!(call(), "000000000000\n");
}

#[test]
fn a_key_that_others_may_read_or_that_does_not_fit_is_refused() {
    let host = Namespace::new();
    let secgroup = Secgroup::inside(&host);
    let directory = TempDir::new().unwrap();
    write_certificate(directory.path());
    let refused = || {
        let options = options(directory.path());
        secgroup.refused(&format!("serve --metrics 127.0.0.1:0 --ec2 127.0.0.1:0 {options}"), 1)
    };
    let key = directory.path().join("key.pem");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    let error = refused();
    assert!(error.contains("key.pem may be read by others (mode 0640)\nhint: "), "{error}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "nothing").unwrap();
    let error = refused();
    assert!(error.contains("no private key in PEM"), "{error}");
    let certificate = fs::read(directory.path().join("cert.pem")).unwrap();
    write_certificate(directory.path());
    fs::write(directory.path().join("cert.pem"), certificate).unwrap();
    let error = refused();
    assert!(error.contains("hint: the key has to be the one"), "{error}");
    fs::remove_file(&key).unwrap();
    let error = refused();
    assert!(
        error.starts_with("error: serve: private key: ") && error.contains("opened"),
        "{error}"
    );
}
