//! `--ec2` of `secgroup serve`, and the options about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::api::{Authentication, server};
use crate::cli::failure::UsageError;
use crate::http::Address;
use crate::http::tls::TlsFiles;
use crate::journal;

#[derive(Debug, Args)]
pub(super) struct Ec2 {
    /// Address and port for the EC2 API, or a Unix socket. Other addresses than loopback need TLS and
    /// an access key
    #[arg(long = "ec2", value_name = "ADDRESS:PORT|unix:PATH", value_parser = address)]
    address: Option<Address>,
    /// Certificate of the EC2 API, with those that signed it, in PEM; read again at SIGHUP
    #[arg(long = "ec2-tls-cert", value_name = "FILE", requires = "key", requires = "address")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM; others must not be able to read it
    #[arg(long = "ec2-tls-key", value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Let every client that can connect to the EC2 API change everything, without access keys; only on
    /// loopback or a Unix socket
    #[arg(long, requires = "address")]
    insecure_no_auth: bool,
    /// Milliseconds, at most 100, within which a revocation takes effect: a client that revokes a rule
    /// and then authorizes it again, as Terraform does, leaves no gap; 0: at once
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 0,
        requires = "address",
        value_parser = clap::value_parser!(u64).range(..=100)
    )]
    ec2_coalesce: u64,
    /// Empty the store at POST /moto-api/reset, for tests of clients; only with --insecure-no-auth, because nothing
    /// authenticates this request
    #[arg(long, requires = "address", hide = true)]
    ec2_test_reset: bool,
}

fn address(word: &str) -> Result<Address, String> {
    Address::parse(word, 8773, "/run/secgroup/ec2.sock")
}

impl Ec2 {
    /// What the options say; `None` without `--ec2`. `keys`: how many access keys there are.
    ///
    /// # Errors
    /// They would let others in than they are to.
    pub(super) fn options(self, keys: usize) -> Result<Option<server::Options>, UsageError> {
        let Self { address, certificate, key, insecure_no_auth, ec2_coalesce, ec2_test_reset } =
            self;
        let Some(address) = address else { return Ok(None) };
        let refused = |message: String, hint| Err(UsageError { message, hint });
        let tls = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key });
        if tls.is_some() && matches!(address, Address::Unix(_)) {
            let message = format!("--ec2 {address}: a Unix socket has no TLS");
            return refused(message, "leave out --ec2-tls-cert and --ec2-tls-key");
        }
        if ec2_test_reset && !insecure_no_auth {
            return refused(
                format!("--ec2 {address}: --ec2-test-reset would let every user empty the store"),
                "leave it out; in a test, add --insecure-no-auth on loopback (127.0.0.1:8773)",
            );
        }
        if !address.is_local() {
            if insecure_no_auth {
                return refused(
                    format!(
                        "--ec2 {address}: every client that reaches it could change every rule"
                    ),
                    "leave out --insecure-no-auth, or listen on loopback (127.0.0.1:8773) or a Unix socket",
                );
            }
            if tls.is_none() {
                return refused(
                    format!(
                        "--ec2 {address}: without TLS, others on the way can read every request"
                    ),
                    "add --ec2-tls-cert FILE and --ec2-tls-key FILE, or listen on loopback \
                     (127.0.0.1:8773) or a Unix socket",
                );
            }
            if keys == 0 {
                return refused(
                    format!("--ec2 {address}: there is no access key, so nobody could use it"),
                    "create one: `secgroup key create`",
                );
            }
        }
        let authentication =
            if insecure_no_auth { Authentication::None } else { Authentication::Keys };
        let coalescing = Duration::from_millis(ec2_coalesce);
        let has_reset = ec2_test_reset;
        Ok(Some(server::Options { address, tls, authentication, has_reset, coalescing }))
    }
}

/// Prints where the API is, and for whom. `keys`: how many access keys there are.
pub(super) fn announce(options: &server::Options, address: &Address, keys: usize) {
    let place = match (address, &options.tls) {
        (Address::Tcp(address), None) => format!("http://{address}"),
        (Address::Tcp(address), Some(_)) => format!("https://{address}"),
        (Address::Unix(_), _) => address.to_string(),
    };
    let who = match (options.authentication, keys) {
        (Authentication::None, _) => {
            "without authentication: every client can change everything".to_owned()
        }
        (Authentication::Keys, 0) => {
            "for access keys, and there is none: `secgroup key create` makes one".to_owned()
        }
        (Authentication::Keys, 1) => "for 1 access key".to_owned(),
        (Authentication::Keys, keys) => format!("for {keys} access keys"),
    };
    journal::report(format_args!("EC2 API at {place}, {who}"));
}

/// The number of access keys, where it matters.
///
/// # Errors
/// They cannot be read.
pub(super) fn count_keys(ec2: &Ec2, state_dir: &Path) -> Result<usize> {
    if ec2.address.is_none() || ec2.insecure_no_auth {
        Ok(0)
    } else {
        server::count_keys(state_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of options, or an empty text.
    fn refusal(address: &str, tls: bool, insecure: bool, reset: bool, keys: usize) -> String {
        let ec2 = Ec2 {
            address: Some(super::address(address).unwrap()),
            certificate: tls.then(|| "cert.pem".into()),
            key: tls.then(|| "key.pem".into()),
            insecure_no_auth: insecure,
            ec2_coalesce: 0,
            ec2_test_reset: reset,
        };
        ec2.options(keys).map_or_else(|error| error.message, |_| String::new())
    }

    #[test]
    fn only_loopback_may_be_without_tls_or_keys() {
        for local in ["127.0.0.1:1", "[::1]:1", "unix:/run/x.sock"] {
            assert_eq!(refusal(local, false, false, false, 0), "", "{local}");
            assert_eq!(refusal(local, false, true, true, 0), "", "{local}");
            assert!(refusal(local, false, false, true, 1).contains("--ec2-test-reset"), "{local}");
        }
        for other in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            for (tls, insecure, reset, keys, reason) in [
                (false, false, false, 1, "without TLS"),
                (true, false, false, 0, "there is no access key"),
                (true, true, false, 1, "every client that reaches it"),
                (true, false, true, 1, "--ec2-test-reset would let every user"),
                (true, true, true, 1, "every client that reaches it"),
                (true, false, false, 1, ""),
            ] {
                let refusal = refusal(other, tls, insecure, reset, keys);
                let is_reason = refusal.contains(reason) && refusal.is_empty() == reason.is_empty();
                assert!(is_reason, "{other}: {refusal}");
            }
        }
        assert!(refusal("unix:/run/x.sock", true, false, false, 1).contains("has no TLS"));
    }
}
