//! `--console` of `secgroup serve`.

use anyhow::Result;
use clap::Args;

use crate::cli::failure::UsageError;
use crate::http::Address;
use crate::journal;

#[derive(Debug, Args)]
pub(super) struct Console {
    /// Address and port for the console, pages in a browser that only show, or a Unix socket, which its
    /// owner and group can use; only on loopback
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH", value_parser = address)]
    console: Option<Address>,
}

fn address(word: &str) -> Result<Address, String> {
    Address::parse(word, 9912, "/run/secgroup/console.sock")
}

impl Console {
    /// Where it listens; `None` without `--console`.
    ///
    /// # Errors
    /// Other hosts could read it: it has neither users nor TLS.
    pub(super) fn address(self) -> Result<Option<Address>, UsageError> {
        let Some(address) = self.console else { return Ok(None) };
        if address.is_local() {
            return Ok(Some(address));
        }
        let message =
            format!("--console {address}: every host that reaches it could read who talks to whom");
        let hint = "listen on loopback (127.0.0.1:9912) or a Unix socket; from elsewhere, \
                    `ssh -L 9912:127.0.0.1:9912 HOST` and open http://127.0.0.1:9912/";
        Err(UsageError { message, hint })
    }
}

/// Prints where it is.
pub(super) fn announce(address: &Address) {
    match address {
        Address::Tcp(address) => journal::report(format_args!("console at http://{address}/")),
        Address::Unix(_) => journal::report(format_args!("console at {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_may_read_it() {
        let open = |word| Console { console: Some(address(word).unwrap()) }.address();
        for local in ["127.0.0.1:9912", "127.1.2.3:1", "[::1]:9912", "unix:/run/x.sock"] {
            assert!(open(local).unwrap().is_some(), "{local}");
        }
        for other in ["0.0.0.0:9912", "[::]:9912", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            let error = open(other).unwrap_err();
            assert!(error.message.contains(other) && error.hint.contains("ssh -L"), "{error}");
        }
        assert!(Console { console: None }.address().unwrap().is_none());
    }
}
