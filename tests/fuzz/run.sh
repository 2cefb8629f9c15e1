#!/bin/sh
# Fuzzes one target: run.sh TARGET [SECONDS]. What was found interesting goes to corpus/TARGET, what fails to artifacts/.
set -eu
cd "$(dirname "$0")"
target=$1 seconds=${2:-600}
mkdir -p "corpus/$target" "artifacts/$target" logs
host=$(rustc -vV | sed -n 's/host: //p')
exec nice -n 19 "target/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=1024 -max_len=8192 -timeout=60 \
    -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target" >"logs/$target.log" 2>&1
