#!/usr/bin/env bash
# build.sh OUT builds plumbline-lab to OUT.
#
# The version of Kubernetes is stamped in from go.mod: without it, the API server
# calls itself v0.0.0-master, which kubectl and Helm cannot parse.
set -euo pipefail

out=$(realpath -m "${1:?usage: build.sh OUT}")
cd "$(dirname "${BASH_SOURCE[0]}")"

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"

ldflags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	for stamp in "gitVersion=$version" "gitMajor=$major" "gitMinor=$minor" \
		"gitCommit=0000000000000000000000000000000000000000" "gitTreeState=clean" \
		"buildDate=1970-01-01T00:00:00Z"; do
		ldflags+=" -X $package.$stamp"
	done
done

# Without the commit in it, the binary is linked anew only when its code changes.
go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$out" .
