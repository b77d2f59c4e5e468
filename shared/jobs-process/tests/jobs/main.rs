//! Real jobs under real supervisors. This binary is the tests, and the program that supervises, as `towpath` is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bench;
mod checkout;
mod contract;
mod ends;
mod older;
mod starting;
mod stopping;
mod watching;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().skip(1).map(String::as_str).collect::<Vec<_>>()[..] {
        ["supervise", "--dir", dir] => towpath_jobs_process::supervise(Path::new(dir)),
        // What another process of the cloud would do.
        ["start", root, job, script] => bench::start_here(root, job, script),
        ["stop", root, job] => bench::stop_here(root, job),
        _ => {
            let arguments = libtest_mimic::Arguments::from_args();
            let tests = [
                starting::tests(),
                ends::tests(),
                stopping::tests(),
                watching::tests(),
                checkout::tests(),
                older::tests(),
                contract::tests(),
            ];
            libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit_code()
        }
    }
}
