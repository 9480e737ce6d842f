#!/usr/bin/env bash
# fuzz.sh DURATION
#
# Runs every fuzz target of the module for DURATION (a go test -fuzztime, such
# as 10s or 1000x): go test itself fuzzes only one target at a time.
set -euo pipefail

duration=$1

targets=$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort) || {
  echo "no fuzz targets" >&2
  exit 1
}

while IFS=: read -r file declaration; do
  target=${declaration#func }
  echo "== $target ($(dirname "$file"))"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" "./$(dirname "$file")"
done <<<"$targets"
