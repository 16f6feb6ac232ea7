//! The binary `secgroup`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    firewall_user::cli::main()
}
