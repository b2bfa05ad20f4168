#!/usr/bin/env bash
# build.sh NAME builds a real server, or its checker, from its Go module and prints the path of the program.
# What is built once stays in ${PLUMBLINE_CACHE:-<repository>/.cache}/servers/NAME-<version>: only the first run pays.
# A module that is built as it is has upstream's own go.mod here, with its requirements, replacements and sums, for
# `go install` refuses those. One with a main.go of ours is an ordinary module.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PLUMBLINE_CACHE:-$(cd "$here/../.." && pwd)/.cache}/servers
name=${1:?usage: build.sh NAME}
tags=

case $name in
otel-collector) dir=$name module=go.opentelemetry.io/collector/otelcol package=. ;;
victoria-logs) dir=$name module=github.com/VictoriaMetrics/VictoriaLogs package=$module/app/victoria-logs ;;
# Every service discovery links its cloud's SDK. The shipped configuration lists its targets, so none is needed.
prometheus | promtool) dir=prometheus module=github.com/prometheus/prometheus package=$module/cmd/$name tags=remove_all_sd ;;
promql) dir=$name module=github.com/prometheus/prometheus package=. ;;
# Not built by the ordinary tests: seven CPU minutes, for a version that is two years behind what is shipped. No newer
# one can be had as a module.
grafana) dir=$name module=github.com/grafana/grafana package=./pkg/cmd/grafana tags=oss ;;
# For test-grafana alone, since Grafana asks Loki without a plugin: six CPU minutes.
loki) dir=$name module=github.com/grafana/loki/v3 package=$module/cmd/loki ;;
openbao) dir=$name module=github.com/openbao/openbao package=$module ;;
sops) dir=$name module=github.com/getsops/sops/v3 package=$module/cmd/sops ;;
alertmanager | amtool) dir=alertmanager module=github.com/prometheus/alertmanager package=$module/cmd/$name ;;
*) echo "build.sh: no server \"$name\"" >&2; exit 1 ;;
esac

version=$(awk -v m="$module" '{ sub(/^require /, "") } $1 == m && $2 ~ /^v/ { print $2; exit }' "$here/$dir/go.mod")
program=$cache/$name-$version
# Not by time of change: a fresh checkout is newer than any cache.
inputs=$({ echo "$package $tags" && cat "$here/$dir"/*; } | cksum)

mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9 # tests of several packages may want the same program at the same time

# Grafana's dependencies are wired by code that is generated, in a copy. It reads conf and public when it starts.
build_grafana() {
  local source=$program.source
  go mod download "$module"
  rm -rf "$source" && cp -r "$(go list -m -f '{{.Dir}}' "$module")" "$source" && chmod -R u+w "$source"
  cd "$source"
  go run github.com/google/wire/cmd/wire@v0.7.0 gen -tags "$tags" ./pkg/server >&2
  CGO_ENABLED=1 go build -mod=mod -buildvcs=false -trimpath -tags "$tags" -ldflags "-s -w" -o "$program.new" "$package" >&2
  rm -rf "$program.home" && mkdir "$program.home" && mv conf public "$program.home" && cd / && rm -rf "$source"
}

build() {
  CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -trimpath -tags "$tags" -ldflags "-s -w" -o "$program.new" "$package" >&2
}

if [[ ! -x $program || $(cat "$program.inputs" 2>/dev/null) != "$inputs" ]]; then
  cd "$here/$dir"
  export GOWORK=off GOFLAGS=
  if [[ $name == grafana ]]; then build_grafana; else build; fi
  mv "$program.new" "$program"
  echo "$inputs" >"$program.inputs"
fi
echo "$program"
