#!/usr/bin/env bash
# Runs every fuzz target of the module for a while each: fuzz.sh DURATION
set -euo pipefail
cd "$(dirname "$0")"
grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
	grep -hoE '^func Fuzz\w+' "$dir"/*_test.go | awk '{print $2}' | while read -r target; do
		echo "== $dir $target"
		go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}"
	done
done
