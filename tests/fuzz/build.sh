#!/bin/sh
# Builds the fuzz targets with a stable compiler, without cargo-fuzz: coverage instrumentation is asked of LLVM directly.
# Arguments go to cargo, such as `--bin mine`.
set -eu
cd "$(dirname "$0")"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing \
-Clink-dead-code -Cdebug-assertions" \
    exec cargo build --release --target "$(rustc -vV | sed -n 's/host: //p')" "$@"
