package scan

import (
	"io"
	"log"
	"log/slog"
)

// Quiet takes back slog's default logger, and the output of the package log. Trivy's
// packages replace both when they are linked, by one that keeps every record for ever,
// and without a lock. What Trivy would log is dropped: what matters of it is an error
// or a finding. Call it in main, with where the package log is to write.
func Quiet(output io.Writer) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	log.SetOutput(output)
	log.SetFlags(log.LstdFlags)
}
