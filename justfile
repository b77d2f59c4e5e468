# The few commands that work on Towpath needs: `just`, and the name of one.

# Lists them.
default:
    @just --list

# Formats, and checks what the compiler and clippy can.
check:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Runs the tests. With a name, those whose names hold it.
test *NAME:
    cargo test --workspace {{NAME}}

# Runs the simulator over so many seeds.
simulate SEEDS="1000":
    cargo run --release -p simulation -- --seeds {{SEEDS}}

# Shows a run from failing tests to a merged commit.
demo *OPTIONS:
    cargo run -- demo {{OPTIONS}}

# Builds the functions as they are deployed, and prints their sizes. Needs cargo-lambda.
functions:
    cargo lambda build --release --arm64
    tests/lambda/measure.py target/lambda

# Does all that decides what lands.
ci:
    .ci/run
