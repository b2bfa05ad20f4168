package render

import (
	"fmt"
	"time"
)

// Budget bounds one render. A zero field means its default.
type Budget struct {
	FileBytes  int64         // of one file; 8 MiB
	TotalBytes int64         // of all files together, and of all objects together; 64 MiB
	Files      int           // read, and directories entered, counting repeats; 5,000
	Objects    int           // counting repeats of a base; 2,000, which take kustomize tens of seconds
	Nodes      int           // YAML nodes of one file once its aliases are expanded; 200,000
	TotalNodes int           // of all files together, counting repeats; 600,000, which take some 300 MB
	Keys       int           // of one mapping, and of what a generator makes; 5,000: kustomize is quadratic in them
	Depth      int           // nested mappings and sequences in one document; 200
	Bases      int           // kustomizations nested in one another; 50
	Steps      int           // patches, labels, field specs and other changes times the objects they look at; 500,000
	Time       time.Duration // checked whenever a file is asked for; 1 minute
}

const mebi = 1 << 20

func (b Budget) withDefaults() Budget {
	setDefault(&b.FileBytes, 8*mebi)
	setDefault(&b.TotalBytes, 64*mebi)
	setDefault(&b.Files, 5_000)
	setDefault(&b.Objects, 2_000)
	setDefault(&b.Nodes, 200_000)
	setDefault(&b.TotalNodes, 600_000)
	setDefault(&b.Keys, 5_000)
	setDefault(&b.Depth, 200)
	setDefault(&b.Bases, 50)
	setDefault(&b.Steps, 500_000)
	setDefault(&b.Time, time.Minute)
	return b
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

func overBudget(what string, limit any) error {
	return fmt.Errorf("over budget: more than %v %s", limit, what)
}
