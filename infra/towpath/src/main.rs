//! The `towpath` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    towpath::cli::main()
}
