package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"k8s.io/klog/v2"
)

// redirectLogs sends what the components log to the lab's log file. When one
// ends the process, which klog does on fatal errors, a line on stderr says where
// to look.
func redirectLogs(dir *labDir, stderr io.Writer) error {
	// Appending writes of one process do not tear each other apart.
	file, err := os.OpenFile(dir.file(logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	settings := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(settings)
	for name, value := range map[string]string{
		"logtostderr":     "false",
		"stderrthreshold": "FATAL", // else errors go to stderr too,
		"one_output":      "true",  // and to the file once per lower severity
	} {
		if err := settings.Set(name, value); err != nil {
			return err
		}
	}
	klog.SetOutput(file)
	slog.SetDefault(slog.New(slog.NewTextHandler(file, nil))) // and with it, package log
	klog.OsExit = func(code int) {
		fmt.Fprintf(stderr, "plumbline-lab: a component gave up; the end of %s:\n%s\n", dir.file(logName), dir.logTail(20))
		dir.close()
		os.Exit(code)
	}
	return nil
}
