package main

import (
	"fmt"
	"runtime/debug"

	"k8s.io/component-base/version"
)

// versions says what is linked in. Kubernetes' version is stamped by build.sh,
// the others are read from the build information.
func versions() string {
	return fmt.Sprintf("plumbline-lab: Kubernetes %s, etcd %s, KWOK %s",
		version.Get().GitVersion, moduleVersion("go.etcd.io/etcd/server/v3"), moduleVersion("sigs.k8s.io/kwok"))
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dep := range info.Deps {
		if dep.Path == path {
			return dep.Version
		}
	}
	return "unknown"
}
