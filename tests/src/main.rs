//! The `towpath` command, as the tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    towpath::cli::main()
}
