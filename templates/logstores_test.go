package templates_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// logStore is where the log records are, and how they are asked for.
type logStore struct {
	dir    string // of its dashboards
	plugin string // of Grafana
	ask    func(records) string
	// lines is a query for records, counts one for how many there are.
	lines, counts func(expr string) object
}

// records are log records of the daemon.
type records struct {
	message string   // "" for any
	levels  []string // nil for any
	stack   bool     // of the stacks that were chosen; others carry none
	source  bool     // of the sources that were chosen
	denies  bool     // findings of the gate that deny, alone
	by      []string // fields to count by; nil: not counted
}

var victoriaLogs = logStore{
	dir: "victoria-logs", plugin: "victoriametrics-logs-datasource",
	ask:    logsQL,
	lines:  func(expr string) object { return logQuery("victoriametrics-logs-datasource", expr, "instant") },
	counts: func(expr string) object { return logQuery("victoriametrics-logs-datasource", expr, "stats") },
}

var loki = logStore{
	dir: "loki", plugin: "loki",
	ask:    logQL,
	lines:  func(expr string) object { return with(logQuery("loki", expr, "range"), "maxLines", 1000) },
	counts: func(expr string) object { return logQuery("loki", expr, "instant") },
}

func logQuery(plugin, expr, kind string) object {
	return object{"datasource": object{"type": plugin, "uid": "${logs}"}, "expr": expr, "queryType": kind, "editorMode": "code"}
}

// logsQL is for VictoriaLogs. Attributes are fields; the resource's are the stream's labels, too.
func logsQL(r records) string {
	query := `"service.name":="plumbline"`
	if r.message != "" {
		query += fmt.Sprintf(" _msg:=%q", r.message)
	}
	if r.levels != nil {
		query += fmt.Sprintf(" severity:in(%s)", strings.Join(r.levels, ", "))
	}
	if r.stack {
		query += fmt.Sprintf(" %[1]s:~`^(${stack:regex})$` %[1]s:~`^(${source:regex})[.]`", telemetry.KeyStack)
	}
	if r.source {
		query += fmt.Sprintf(" %s:~`^(${source:regex})$`", telemetry.KeySource)
	}
	if r.denies {
		query += fmt.Sprintf(" %s:=true", telemetry.KeyDenies)
	}
	if r.by != nil {
		query += fmt.Sprintf(" | stats by (%s) count() records", strings.Join(r.by, ", "))
	}
	return query
}

// logQL is for Loki. The line is the message; attributes are structured metadata.
func logQL(r records) string {
	query := `{service_name="plumbline"}`
	if r.message != "" {
		query += fmt.Sprintf(" |~ `^%s$`", r.message)
	}
	if r.levels != nil {
		query += fmt.Sprintf(" | severity_text=~`%s`", strings.Join(r.levels, "|"))
	}
	if r.stack {
		query += fmt.Sprintf(" | %[1]s=~`${stack:regex}` | %[1]s=~`(${source:regex})[.].*`", telemetry.KeyStack)
	}
	if r.source {
		query += fmt.Sprintf(" | %s=~`${source:regex}`", telemetry.KeySource)
	}
	if r.denies {
		query += fmt.Sprintf(" | %s=`true`", telemetry.KeyDenies)
	}
	if r.by != nil {
		query = fmt.Sprintf("sum by (%s) (count_over_time(%s [$__range]))", strings.Join(r.by, ", "), query)
	}
	return query
}

// table shows records, their fields as columns: field, title, field, title…
func (b *board) table(width, height int, title, description string, r records, fields []string, more ...change) {
	known := telemetry.Records()[slices.IndexFunc(telemetry.Records(), func(k telemetry.Record) bool { return k.Message == r.message })].Fields
	for i := 0; i < len(fields); i += 2 {
		if !slices.Contains(known, fields[i]) {
			panic(fmt.Sprintf("%s: the record %q has no field %s", title, r.message, fields[i]))
		}
	}
	names := append([]string{"Time", "Time", "timestamp", "Time"}, fields...) // Loki has either, by version
	all := []change{transform("extractFields", object{"source": "labels", "format": "json", "replace": true, "keepTime": true})}
	all = append(all, columns(names...)...)
	all = append(all, transform("sortBy", object{"fields": object{}, "sort": []object{{"field": "Time", "desc": true}}}), column("Time", "custom.width", 170, "unit", "dateTimeAsIso"))
	b.panel(width, height, "table", title, description, []object{b.logs.lines(b.logs.ask(r))}, append(all, more...)...)
}
