package templates_test

import (
	"fmt"

	"go.opentelemetry.io/otel/attribute"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// The attributes that panels go by.
const (
	stackOf  = telemetry.AttrStack
	sourceOf = telemetry.AttrSource
	kindOf   = telemetry.AttrKind
	resultOf = telemetry.AttrResult
)

// dashboards are the files below dashboards, by their paths there.
func dashboards() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, store := range []logStore{victoriaLogs, loki} {
		for name, write := range map[string]func(*board) ([]byte, error){"overview": overview, "drift": drift, "rollouts": rollouts, "gate": gate} {
			text, err := write(&board{logs: store})
			if err != nil {
				return nil, fmt.Errorf("write %s for %s: %w", name, store.dir, err)
			}
			files[store.dir+"/"+name+".json"] = text
		}
	}
	return files, nil
}

func overview(b *board) ([]byte, error) {
	sum := func(metric string) []object {
		return []object{at(fmt.Sprintf("sum(%s)", now(metric, inStack, stackOf)), "")}
	}
	b.panel(3, 4, "stat", "Stacks", "All stacks of the sources above.", []object{at(fmt.Sprintf("count(%s)", now("plumbline.stack.ready", inStack, stackOf)), "")}, steps("blue"))
	b.panel(3, 4, "stat", "Ready", "All their objects are as Git wants them, and Ready.", sum("plumbline.stack.ready"), steps("green"))
	b.panel(3, 4, "stat", "Stalled", "They can't go on without a person: broken, refused, or not Ready in time.", sum("plumbline.stack.stalled"), steps("green", 1, "red"))
	b.panel(3, 4, "stat", "Contended", "Another manager insists on its own values, and was left in peace.", sum("plumbline.stack.contended"), steps("green", 1, "orange"))
	b.panel(3, 4, "stat", "Suspended", "Somebody wants them left alone.", sum("plumbline.stack.suspended"), steps("green", 1, "blue"))
	b.panel(3, 4, "stat", "Drift now", "Objects that are not as Git wants them, although Git has not moved.",
		[]object{at(fmt.Sprintf("sum(%s) or vector(0)", now("plumbline.drift.objects", inStack, stackOf, kindOf)), "")}, steps("green", 1, "orange"),
		field("links", []object{{"title": "Drift", "url": "/d/plumbline-drift?${__url_time_range}&${__all_variables}"}}))
	b.panel(3, 4, "stat", "Sources failing", "The last look at them failed: their stacks stay at the last good commit.",
		[]object{at(fmt.Sprintf("sum(%s)", now("plumbline.source.failing", inSource, sourceOf)), "")}, steps("green", 1, "red"))
	b.panel(3, 4, "stat", "Daemons", "How many can be measured. One leads, the others stand by.",
		[]object{at(fmt.Sprintf("count(%s) or vector(0)", metricOf("plumbline.build.info")), "")}, steps("red", 1, "green"))

	b.row("Stacks")
	state := func(metric string) object { return rows(now(metric, inStack, stackOf)) }
	stacks := []object{
		rows(now("plumbline.stack.info", inStack, sourceOf, stackOf, telemetry.AttrRevision)),
		state("plumbline.stack.ready"), state("plumbline.stack.stalled"), state("plumbline.stack.contended"), state("plumbline.stack.suspended"),
		rows(fmt.Sprintf("sum by (%s) (%s)", label(stackOf), now("plumbline.drift.objects", inStack, stackOf, kindOf))),
		rows(now("plumbline.stack.objects", label(telemetry.AttrObjectState)+`="pending", `+inStack, stackOf)),
	}
	coloured := object{"type": "color-text"}
	b.panel(24, 10, "table", "State of each stack", "The revision is the commit that changed its inputs last. A stack's name leads to its drift.", stacks, append([]change{
		transform("joinByField", object{"byField": label(stackOf), "mode": "outer"})},
		append(columns(label(stackOf), "Stack", label(sourceOf), "Source", "Value #B", "Ready", "Value #C", "Stalled", "Value #D", "Contended", "Value #E", "Suspended",
			"Value #F", "Drift", "Value #G", "Pending", label(telemetry.AttrRevision), "Revision"),
			column("Stack", "links", linkTo("plumbline-drift", "Drift of ${__value.raw}")),
			column("Ready", "mappings", says("no", "orange", "yes", "green"), "custom.cellOptions", coloured),
			column("Stalled", "mappings", says("", "text", "stalled", "red"), "custom.cellOptions", coloured),
			column("Contended", "mappings", says("", "text", "contended", "orange"), "custom.cellOptions", coloured),
			column("Suspended", "mappings", says("", "text", "suspended", "blue"), "custom.cellOptions", coloured),
			column("Drift", "custom.cellOptions", coloured, "noValue", "0", "thresholds", thresholds("text", 1, "orange")),
			column("Revision", "custom.width", 330))...)...)

	b.row("Pushes")
	b.panel(8, 8, "timeseries", "Pushes", "New commits, by source.", []object{over(total("plumbline.source.moves", inSource, "$__interval", sourceOf), braces(sourceOf))}, bars)
	b.panel(8, 8, "timeseries", "Lead time", "From the time of a commit until a stack that it changed was Ready, over the last hour at each point.", []object{
		over(quantile("0.5", "plumbline.lead_time", inStack, "1h"), "half of them"), over(quantile("0.95", "plumbline.lead_time", inStack, "1h"), "95 of 100")}, unit("s"), minute,
		field("links", []object{{"title": "Rollouts", "url": "/d/plumbline-rollouts?${__url_time_range}&${__all_variables}"}}))
	b.panel(8, 8, "table", "Sources", "How long ago each was looked at without a failure.", []object{
		rows(now("plumbline.source.failing", inSource, sourceOf)), rows("time() - " + now("plumbline.source.success.time", inSource, sourceOf))}, append([]change{
		transform("joinByField", object{"byField": label(sourceOf), "mode": "outer"})}, append(columns(label(sourceOf), "Source", "Value #A", "State", "Value #B", "Last look"),
		column("State", "mappings", says("followed", "green", "failing", "red"), "custom.cellOptions", coloured), column("Last look", "unit", "s", "decimals", 0))...)...)

	b.row("Daemon")
	b.panel(8, 8, "timeseries", "API requests", "Requests to the API server, by verb. A stack in which nothing moved makes none.",
		[]object{over(fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval]))", label(telemetry.AttrVerb), metricOf("plumbline.api.requests")), braces(telemetry.AttrVerb))}, unit("reqps"))
	b.panel(8, 8, "timeseries", "API requests that failed", "By verb and class of the answer. 429 is the API server asking to slow down.",
		[]object{over(fmt.Sprintf(`sum by (%[1]s, %[2]s) (rate(%[3]s{%[2]s!~"2xx|3xx"}[$__rate_interval])) or vector(0)`, label(telemetry.AttrVerb), label(telemetry.AttrStatus), metricOf("plumbline.api.requests")),
			braces(telemetry.AttrVerb)+" "+braces(telemetry.AttrStatus))}, unit("reqps"))
	b.panel(8, 8, "timeseries", "Waiting", "Stacks that wait for a worker, and statuses that wait to be written.",
		[]object{over(fmt.Sprintf("max by (%s) (%s)", label(telemetry.AttrQueue), metricOf("plumbline.queue.depth")), braces(telemetry.AttrQueue))}, unit("short"))
	b.panel(8, 8, "timeseries", "Watches started again", "By kind. Each costs a list.", []object{over(total("plumbline.watch.restarts", "", "$__interval", kindOf)+" or vector(0)", braces(kindOf))}, bars)
	b.panel(8, 8, "timeseries", "Memory", "Resident: the text of the program is part of it, which the kernel may drop and read again.",
		[]object{over(ofDaemon("process_resident_memory_bytes"), "{{instance}}")}, unit("bytes"))
	b.panel(8, 8, "timeseries", "CPU", "Of one core.", []object{over(ofDaemon("rate(process_cpu_seconds_total[$__rate_interval])"), "{{instance}}")}, unit("percentunit"))

	b.row("Log")
	b.panel(24, 9, "logs", "Warnings and errors", "Of all sources and stacks. A line's fields say which.", []object{b.logs.lines(b.logs.ask(records{levels: []string{"WARN", "ERROR"}}))})
	return b.finish("plumbline-overview", "Plumbline / Overview", "How all stacks are, and the daemon that keeps them so.", "now-6h")
}

// braces is a legend: the value of a label.
func braces(key attribute.Key) string { return "{{" + label(key) + "}}" }

func drift(b *board) ([]byte, error) {
	objects := now("plumbline.drift.objects", inStack, stackOf, kindOf)
	b.panel(4, 4, "stat", "Drift now", "Objects that are not as Git wants them, although Git has not moved.", []object{at(fmt.Sprintf("sum(%s) or vector(0)", objects), "")}, steps("green", 1, "orange"))
	b.panel(4, 4, "stat", "Stacks contended", "Another manager insists on its own values, and was left in peace.",
		[]object{at(fmt.Sprintf("sum(%s)", now("plumbline.stack.contended", inStack, stackOf)), "")}, steps("green", 1, "orange"))
	b.panel(4, 4, "stat", "Drifts", "In the time that is shown, of all stacks.", []object{at(total("plumbline.drift.detected", "", "$__range"), "")}, steps("blue"))
	b.panel(4, 4, "stat", "Left as they were", "Because the stack only detects drift, or somebody insisted. In the time that is shown, of all stacks.",
		[]object{at(total("plumbline.drift.detected", label(telemetry.AttrAction)+`!="correct"`, "$__range"), "")}, steps("green", 1, "orange"))
	b.panel(4, 4, "stat", "Seen within", "99 of 100 drifts were known for what they are within this time of the change, as far as the objects tell when that was.",
		[]object{at(quantile("0.99", "plumbline.drift.detection.duration", "", "$__range"), "")}, unit("s"), steps("green", 1, "orange", 10, "red"))
	b.panel(4, 4, "stat", "Put right within", "99 of 100 of those that were put right were so within this time of being known.",
		[]object{at(quantile("0.99", "plumbline.drift.correction.duration", "", "$__range"), "")}, unit("s"), steps("green", 1, "orange", 10, "red"))

	b.row("Now")
	b.panel(12, 8, "table", "By stack and kind", "What is not as Git wants it now.", []object{rows(objects)}, append(columns(label(stackOf), "Stack", label(kindOf), "Kind", "Value", "Objects"),
		column("Objects", "custom.cellOptions", object{"type": "gauge", "mode": "basic"}, "color", object{"mode": "fixed", "fixedColor": "orange"}, "min", 0))...)
	b.panel(12, 8, "timeseries", "Drift over time", "Objects that were not as Git wanted them, by stack. Where drift is corrected, it is gone before anybody looks.",
		[]object{over(fmt.Sprintf("sum by (%s) (%s)", label(stackOf), objects), braces(stackOf))}, custom("stacking", object{"mode": "normal", "group": "A"}))

	b.row("Who, and what was done about it")
	b.panel(8, 8, "timeseries", "By manager", "Who changed the objects, as their managedFields tell. Who deletes something leaves no trace: unknown.",
		[]object{over(total("plumbline.drift.detected", "", "$__interval", telemetry.AttrManager), braces(telemetry.AttrManager))}, bars)
	b.panel(8, 8, "timeseries", "By action", "correct: put right; leave: the stack only detects; contend: somebody insists.",
		[]object{over(total("plumbline.drift.detected", "", "$__interval", telemetry.AttrAction), braces(telemetry.AttrAction))}, bars)
	b.panel(8, 8, "bargauge", "By stack and manager", "How many records there are, in the time that is shown.",
		[]object{with(b.logs.counts(b.logs.ask(records{message: telemetry.MsgDrift, stack: true, by: []string{telemetry.KeyStack, telemetry.KeyManager}})), "legendFormat", "{{"+telemetry.KeyStack+"}}: {{"+telemetry.KeyManager+"}}")})

	b.row("How fast")
	for _, way := range [][3]string{
		{"plumbline.drift.detection.duration", "Until it was known", "From the change of an object until it was known to be drift. Objects tell the second of a change, so up to one is rounding."},
		{"plumbline.drift.correction.duration", "Until it was put right", "From there on."},
	} {
		b.panel(12, 8, "timeseries", way[1], way[2]+" Over the last hour at each point.", []object{over(quantile("0.5", way[0], "", "1h"), "half of them"), over(quantile("0.99", way[0], "", "1h"), "99 of 100")}, unit("s"), minute)
		b.panel(12, 8, "heatmap", way[1]+", each", way[2], []object{buckets(fmt.Sprintf("sum by (le) (%s)", grown(way[0], "_bucket", "", "$__interval")))}, minute)
	}

	b.row("Records")
	b.table(24, 14, "Drifts", "One for each. Without a time in \"put right\" it is still there, or was when the record was written.", records{message: telemetry.MsgDrift, stack: true}, []string{
		telemetry.KeyStack, "Stack", telemetry.KeyKind, "Kind", telemetry.KeyNamespace, "Namespace", telemetry.KeyName, "Name", telemetry.KeyWhat, "What", telemetry.KeyManager, "Who", telemetry.KeyOperation, "How",
		telemetry.KeyChanged, "When", telemetry.KeyFields, "Fields: have → want", telemetry.KeyAction, "Action", telemetry.KeyCorrected, "Put right", telemetry.KeySeconds, "Seconds", telemetry.KeyError, "Error"},
		column("Fields: have → want", "custom.width", 420, "custom.cellOptions", object{"type": "auto", "wrapText": true}),
		column("Stack", "links", linkTo("plumbline-rollouts", "Rollouts of ${__value.raw}")))
	b.panel(24, 8, "logs", "Resolved later", "Drift that had stayed, and is gone.", []object{b.logs.lines(b.logs.ask(records{message: telemetry.MsgDriftResolved, stack: true}))})
	return b.finish("plumbline-drift", "Plumbline / Drift report", "What is not as Git wants it: what, who, when, and what was done about it.", "now-24h")
}

func rollouts(b *board) ([]byte, error) {
	const lead, rollout, step = "plumbline.lead_time", "plumbline.rollout.duration", "plumbline.step.duration"
	failed := label(resultOf) + `!="success", ` + inStack
	b.panel(4, 4, "stat", "Pushes", "New commits in the time that is shown.", []object{at(total("plumbline.source.moves", inSource, "$__range"), "")}, steps("blue"))
	b.panel(4, 4, "stat", "Rollouts", "Of the stacks that pushes changed.", []object{at(fmt.Sprintf("sum(%s) or vector(0)", grown(rollout, "_count", inStack, "$__range")), "")}, steps("blue"))
	b.panel(4, 4, "stat", "Not Ready in time", "Rollouts that were overdue, or were overtaken by newer inputs.", []object{at(fmt.Sprintf("sum(%s) or vector(0)", grown(rollout, "_count", failed, "$__range")), "")}, steps("green", 1, "red"))
	b.panel(4, 4, "stat", "Runs that failed", "Of all stacks.", []object{at(total("plumbline.runs", label(resultOf)+`!="success"`, "$__range"), "")}, steps("green", 1, "orange"))
	b.panel(4, 4, "stat", "Lead time", "Half of the commits were Ready within this time of being made.", []object{at(quantile("0.5", lead, inStack, "$__range"), "")}, unit("s"), steps("green", 120, "orange", 600, "red"))
	b.panel(4, 4, "stat", "Lead time, 95 of 100", "", []object{at(quantile("0.95", lead, inStack, "$__range"), "")}, unit("s"), steps("green", 300, "orange", 1800, "red"))

	b.row("From commit to Ready")
	b.panel(12, 9, "timeseries", "Lead time", "From the time of a commit until a stack that it changed was Ready, over the last hour at each point.", []object{
		over(quantile("0.5", lead, inStack, "1h"), "half of them"), over(quantile("0.95", lead, inStack, "1h"), "95 of 100")}, unit("s"), minute)
	perStack := func(metric string) []object {
		return []object{rows(quantile("0.5", metric, inStack, "$__range", stackOf)), rows(quantile("0.95", metric, inStack, "$__range", stackOf)),
			rows(fmt.Sprintf("sum by (%s) (%s)", label(stackOf), grown(metric, "_count", inStack, "$__range")))}
	}
	quantiles := append([]change{transform("joinByField", object{"byField": label(stackOf), "mode": "outer"})},
		append(columns(label(stackOf), "Stack", "Value #A", "Half of them", "Value #B", "95 of 100", "Value #C", "How many"), column("Half of them", "unit", "s"), column("95 of 100", "unit", "s"), column("How many", "decimals", 0),
			column("Stack", "links", linkTo("plumbline-drift", "Drift of ${__value.raw}")))...)
	b.panel(12, 9, "table", "Lead time of each stack", "In the time that is shown.", perStack(lead), quantiles...)
	b.panel(12, 9, "timeseries", "Rollouts", "By how they ended. timeout: not Ready in time; cancellation: newer inputs came.",
		[]object{over(fmt.Sprintf("sum by (%s) (%s)", label(resultOf), grown(rollout, "_count", inStack, "$__interval")), braces(resultOf))}, bars)
	b.panel(12, 9, "table", "Rollout of each stack", "From the begin of an apply until the stack was Ready, or overdue, or newer inputs came. In the time that is shown.", perStack(rollout), quantiles...)

	b.row("Runs")
	b.panel(8, 8, "timeseries", "By result", "A run is one trip from the files to the cluster.", []object{over(total("plumbline.runs", "", "$__interval", resultOf), braces(resultOf))}, bars)
	b.panel(8, 8, "timeseries", "By trigger", "What caused them.", []object{over(total("plumbline.runs", "", "$__interval", telemetry.AttrTrigger), braces(telemetry.AttrTrigger))}, bars)
	b.panel(8, 8, "timeseries", "Stacks compared", "With each commit: those whose inputs it changed, and those it left alone, which cost nothing.",
		[]object{over(total("plumbline.inputs.compared", inSource, "$__interval", telemetry.AttrInputs), braces(telemetry.AttrInputs))}, bars)
	b.panel(8, 8, "bargauge", "Steps, half of them", "How long each step of a run took, in the time that is shown.", []object{at(quantile("0.5", step, "", "$__range", telemetry.AttrStep), braces(telemetry.AttrStep))}, unit("s"))
	b.panel(8, 8, "bargauge", "Steps, 95 of 100", "", []object{at(quantile("0.95", step, "", "$__range", telemetry.AttrStep), braces(telemetry.AttrStep))}, unit("s"))
	b.panel(8, 8, "timeseries", "Looks at sources", "How long they took, with the fetch if there was one: 95 of 100, over the last hour at each point.",
		[]object{over(quantile("0.95", "plumbline.fetch.duration", inSource, "1h", sourceOf), braces(sourceOf))}, unit("s"), minute)

	b.row("What went wrong")
	b.table(24, 8, "Rollouts that failed", "Stacks that were not Ready in time, and why.", records{message: telemetry.MsgRolloutFailed, stack: true}, []string{
		telemetry.KeyStack, "Stack", telemetry.KeyWhy, "Why", telemetry.KeyObjects, "Objects", telemetry.KeyTook, "Took", telemetry.KeyRevision, "Revision"},
		column("Why", "custom.width", 700, "custom.cellOptions", object{"type": "auto", "wrapText": true}))
	b.table(24, 8, "Runs that failed", "Each error once, until it is another.", records{message: telemetry.MsgRunFailed, stack: true}, []string{
		telemetry.KeyStack, "Stack", telemetry.KeyTrigger, "Trigger", telemetry.KeyError, "Error", telemetry.KeyTook, "Took", telemetry.KeyRevision, "Revision"},
		column("Error", "custom.width", 700, "custom.cellOptions", object{"type": "auto", "wrapText": true}))

	b.row("Commits")
	b.table(12, 8, "Commits", "What each source has got.", records{message: telemetry.MsgSourceMoved, source: true}, []string{
		telemetry.KeySource, "Source", telemetry.KeyRef, "Ref", telemetry.KeyRevision, "Revision", telemetry.KeyTook, "Took"})
	b.table(12, 8, "Stacks that became Ready", "With new inputs; the lead time counts from when the daemon saw the commit.", records{message: telemetry.MsgStackReady, stack: true}, []string{
		telemetry.KeyStack, "Stack", telemetry.KeyLeadTime, "Lead time", telemetry.KeyObjects, "Objects", telemetry.KeyRevision, "Revision"})
	return b.finish("plumbline-rollouts", "Plumbline / Rollouts and lead time", "From a push until it is Ready: how long it took, and what went wrong.", "now-7d")
}
