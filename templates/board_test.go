package templates_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// The dashboards are written here, for the logs are in VictoriaLogs or in Loki, and the two have nothing in common but
// what is asked of them. What Grafana reads is beside this file, in dashboards; make generate writes it anew.

// object is one of JSON.
type object = map[string]any

// board is a dashboard on its way. Panels go from left to right, and from top to bottom.
type board struct {
	logs   logStore
	panels []object
	id     int
	x, y   int
	low    int // height of the highest panel in this line
}

// row begins a part of the dashboard.
func (b *board) row(title string) {
	b.y, b.x, b.low = b.y+b.low, 0, 0
	b.place(24, 1, object{"type": "row", "title": title, "collapsed": false, "panels": []any{}})
}

func (b *board) place(width, height int, p object) {
	if b.x+width > 24 {
		b.x, b.y, b.low = 0, b.y+b.low, 0
	}
	b.id++
	p["id"], p["gridPos"] = b.id, object{"x": b.x, "y": b.y, "w": width, "h": height}
	b.x, b.low = b.x+width, max(b.low, height)
	b.panels = append(b.panels, p)
}

// panel places a panel. Its queries have one data source.
func (b *board) panel(width, height int, kind, title, description string, queries []object, more ...change) {
	p := object{"type": kind, "title": title, "description": description, "options": object{},
		"fieldConfig": object{"defaults": object{"custom": object{}}, "overrides": []any{}}}
	for i, q := range queries {
		q["refId"] = string(rune('A' + i))
		p["datasource"] = q["datasource"]
	}
	p["targets"] = queries
	for _, m := range append(looks[kind], more...) {
		m(p)
	}
	b.place(width, height, p)
}

// finish is the dashboard as Grafana reads it.
func (b *board) finish(uid, title, description, from string) ([]byte, error) {
	links := []object{}
	for _, other := range [][2]string{{"plumbline-overview", "Overview"}, {"plumbline-drift", "Drift"}, {"plumbline-rollouts", "Rollouts"}, {"plumbline-gate", "Gate"}} {
		if other[0] != uid {
			links = append(links, object{"type": "link", "title": other[1], "url": "/d/" + other[0], "icon": "dashboard", "tooltip": "", "tags": []string{},
				"asDropdown": false, "targetBlank": false, "includeVars": true, "keepTime": true})
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	err := encoder.Encode(object{
		"uid": uid, "title": title, "description": description, "tags": []string{"plumbline"}, "schemaVersion": 39, "version": 1,
		"editable": true, "graphTooltip": 1, "refresh": "1m", "timezone": "browser", "time": object{"from": from, "to": "now"},
		"links": links, "panels": b.panels, "templating": object{"list": b.variables()}, "annotations": object{"list": []object{pushes()}},
	})
	return out.Bytes(), err
}

// variables choose the data sources, and what is shown.
func (b *board) variables() []object {
	source := func(name, label, plugin string) object {
		return object{"type": "datasource", "name": name, "label": label, "query": plugin, "regex": "", "refresh": 1, "hide": 0,
			"multi": false, "includeAll": false, "skipUrlSync": false}
	}
	choice := func(name, label, query string) object {
		return object{"type": "query", "name": name, "label": label, "datasource": metricsSource, "query": object{"qryType": 1, "query": query, "refId": name},
			"definition": query, "refresh": 2, "sort": 1, "regex": "", "hide": 0, "multi": true, "includeAll": true, "allValue": ".*",
			"current": object{"text": []string{"All"}, "value": []string{"$__all"}}, "skipUrlSync": false}
	}
	return []object{
		source("metrics", "Metrics", "prometheus"),
		source("logs", "Logs", b.logs.plugin),
		choice("source", "Source", fmt.Sprintf("label_values(%s, %s)", metricOf("plumbline.source.failing"), label(telemetry.AttrSource))),
		choice("stack", "Stack", fmt.Sprintf(`label_values(%s{%s=~"$source"}, %s)`, metricOf("plumbline.stack.ready"), label(telemetry.AttrSource), label(telemetry.AttrStack))),
	}
}

// pushes marks the commits in every graph.
func pushes() object {
	return object{"name": "Pushes", "enable": true, "hide": false, "iconColor": "purple", "datasource": metricsSource, "step": "60s",
		"expr":        fmt.Sprintf("sum by (%s) (%s) > 0", label(telemetry.AttrSource), grown("plumbline.source.moves", "", inSource, "$__interval")),
		"titleFormat": "Push", "textFormat": "{{" + label(telemetry.AttrSource) + "}}"}
}

// Data sources are chosen on the dashboard.
var metricsSource = object{"type": "prometheus", "uid": "${metrics}"}

// label is an attribute's name in PromQL.
func label(key attribute.Key) string { return telemetry.PrometheusLabel(key) }

// metricOf is a metric's name in PromQL. One that isn't in the table is no name of ours.
func metricOf(name string) string {
	for _, m := range telemetry.Metrics() {
		if m.Name == name {
			return m.Prometheus()
		}
	}
	panic("there is no metric " + name)
}

// Selectors of what was chosen. A stack's name begins with that of its source.
var (
	inSource = label(telemetry.AttrSource) + `=~"$source"`
	inStack  = label(telemetry.AttrStack) + `=~"$stack", ` + label(telemetry.AttrStack) + `=~"($source)[.].*"`
)

// now is a gauge's value by labels, whichever of two daemons tells it.
func now(metric, selector string, by ...attribute.Key) string {
	return fmt.Sprintf("max by (%s) (%s{%s})", labels(by), metricOf(metric), selector)
}

func labels(keys []attribute.Key) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = label(key)
	}
	return strings.Join(names, ", ")
}

// grown is by how much a counter, or a series of a histogram, grew within a window.
//
// What is counted here is rare. increase() doesn't see the first of a kind, for its series begins with it, nor what
// falls between two windows; and it says 1.07 where one thing happened. This sees all, and adds up. After a restart,
// which begins at zero, all since then counts.
func grown(metric, suffix, selector, window string) string {
	series := metricOf(metric) + suffix
	if selector != "" {
		series += "{" + selector + "}"
	}
	return fmt.Sprintf("(%[1]s - %[1]s offset %[2]s >= 0) or %[1]s", series, window)
}

// quantile is of what a histogram was told within a window.
func quantile(q, metric, selector, window string, by ...attribute.Key) string {
	grouping := "le"
	if len(by) > 0 {
		grouping += ", " + labels(by)
	}
	return fmt.Sprintf("histogram_quantile(%s, sum by (%s) (%s))", q, grouping, grown(metric, "_bucket", selector, window))
}

// total is by how much counters grew, of all or by labels.
func total(metric, selector, window string, by ...attribute.Key) string {
	if len(by) == 0 {
		return fmt.Sprintf("sum(%s) or vector(0)", grown(metric, "", selector, window))
	}
	return fmt.Sprintf("sum by (%s) (%s)", labels(by), grown(metric, "", selector, window))
}

// ofDaemon is something that the process itself tells, of the processes that are Plumbline.
func ofDaemon(expr string) string {
	return fmt.Sprintf("%s * on (job, instance) group_left () %s", expr, metricOf("plumbline.build.info"))
}

// over is a query whose answer is a line, at is one whose answer is a point.
func over(expr, legend string) object {
	return object{"datasource": metricsSource, "expr": expr, "legendFormat": legend, "range": true, "instant": false, "editorMode": "code", "format": "time_series"}
}

func at(expr, legend string) object {
	q := over(expr, legend)
	q["range"], q["instant"] = false, true
	return q
}

// rows and buckets are for tables and heatmaps.
func rows(expr string) object { return with(at(expr, ""), "format", "table") }

func buckets(expr string) object { return with(over(expr, "{{le}}"), "format", "heatmap") }

func with(o object, key string, value any) object {
	o[key] = value
	return o
}

// change is something that is not as usual about a panel.
type change func(object)

// looks are how panels look.
var looks = map[string][]change{
	"stat": {option("reduceOptions", object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}), option("colorMode", "background"), option("graphMode", "none"),
		option("justifyMode", "center"), option("textMode", "auto"), option("orientation", "auto"), steps("text")},
	"timeseries": {option("legend", object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}}), option("tooltip", object{"mode": "multi", "sort": "desc"}),
		custom("fillOpacity", 10), custom("lineWidth", 1), custom("showPoints", "auto"), field("min", 0)},
	"table":    {option("showHeader", true), custom("align", "auto"), custom("filterable", true)},
	"bargauge": {option("reduceOptions", object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}), option("displayMode", "basic"), option("orientation", "horizontal"), option("showUnfilled", false), option("legend", object{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}}), option("valueMode", "color"), steps("blue"), field("min", 0)},
	"heatmap": {option("calculate", false), option("cellGap", 1), option("color", object{"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "fill": "blue", "reverse": false}),
		option("yAxis", object{"axisPlacement": "left", "unit": "s"}), option("tooltip", object{"mode": "single", "yHistogram": false}), option("legend", object{"show": true}),
		option("filterValues", object{"le": 1e-9}), option("exemplars", object{"color": "orange"})},
	"logs": {option("showTime", true), option("showLabels", false), option("showCommonLabels", false), option("wrapLogMessage", true), option("prettifyLogMessage", false),
		option("enableLogDetails", true), option("showLogContextToggle", false), option("dedupStrategy", "none"), option("sortOrder", "Descending")},
}

func option(name string, value any) change {
	return func(p object) { p["options"].(object)[name] = value }
}

func field(name string, value any) change {
	return func(p object) { p["fieldConfig"].(object)["defaults"].(object)[name] = value }
}

func custom(name string, value any) change {
	return func(p object) {
		p["fieldConfig"].(object)["defaults"].(object)["custom"].(object)[name] = value
	}
}

func unit(name string) change { return field("unit", name) }

// steps are colours from a value on: colour, value, colour…
func steps(colour string, rest ...any) change {
	return field("thresholds", thresholds(colour, rest...))
}

func thresholds(colour string, rest ...any) object {
	list := []object{{"color": colour, "value": nil}}
	for i := 0; i+1 < len(rest); i += 2 {
		list = append(list, object{"value": rest[i], "color": rest[i+1]})
	}
	return object{"mode": "absolute", "steps": list}
}

// bars stand on each other, one for each interval, none of which is shorter than a minute.
func bars(p object) {
	for _, look := range []change{custom("drawStyle", "bars"), custom("fillOpacity", 80), custom("lineWidth", 0), custom("showPoints", "never"),
		custom("stacking", object{"mode": "normal", "group": "A"})} {
		look(p)
	}
	minute(p)
}

func minute(p object) { p["interval"] = "1m" }

func transform(id string, options any) change {
	return func(p object) {
		list, _ := p["transformations"].([]object)
		p["transformations"] = append(list, object{"id": id, "options": options})
	}
}

// column is how a field of a table looks: property, value, property…
func column(name string, properties ...any) change {
	list := []object{}
	for i := 0; i+1 < len(properties); i += 2 {
		list = append(list, object{"id": properties[i], "value": properties[i+1]})
	}
	return func(p object) {
		config := p["fieldConfig"].(object)
		config["overrides"] = append(config["overrides"].([]any), object{"matcher": object{"id": "byName", "options": name}, "properties": list})
	}
}

// says puts words and colours for 0 and 1.
func says(no, noColour, yes, yesColour string) []object {
	return []object{{"type": "value", "options": object{"0": object{"text": no, "color": noColour, "index": 0}, "1": object{"text": yes, "color": yesColour, "index": 1}}}}
}

// columns are the fields of a table, in their order: name, title, name, title…
func columns(names ...string) []change {
	include, index, rename := []string{}, object{}, object{}
	for i := 0; i+1 < len(names); i += 2 {
		include = append(include, names[i])
		index[names[i]], rename[names[i]] = i/2, names[i+1]
	}
	return []change{transform("filterFieldsByName", object{"include": object{"names": include}}),
		transform("organize", object{"excludeByName": object{}, "indexByName": index, "renameByName": rename})}
}

// linkTo opens another dashboard for the stack of a cell.
func linkTo(uid, title string) []object {
	return []object{{"title": title, "url": "/d/" + uid + "?var-stack=${__value.raw}&${metrics:queryparam}&${logs:queryparam}&${__url_time_range}", "targetBlank": false}}
}
