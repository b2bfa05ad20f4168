package templates_test

import (
	"fmt"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

const (
	severityOf  = telemetry.AttrSeverity
	exceptionOf = telemetry.AttrException
)

// severities are those of findings, worst first, with their colours.
var severities = [][2]string{{"CRITICAL", "red"}, {"HIGH", "orange"}, {"MEDIUM", "yellow"}, {"LOW", "blue"}, {"UNKNOWN", "text"}}

// soon is from when on the end of an exception is told: by the gate, and by PlumblineGateExceptionExpiring.
const soon = 14 * 86400

// What the panels of the gate ask for, by stack.
var (
	deniedNow     = now("plumbline.gate.denied", inStack, sourceOf, stackOf) + " == 1"
	findingsNow   = now("plumbline.gate.findings", inStack, stackOf, severityOf)
	exceptionsEnd = now("plumbline.gate.exception.expiry.time", inStack, stackOf, exceptionOf)
)

// found is how many findings of a severity stacks have.
func found(severity string) string {
	return now("plumbline.gate.findings", fmt.Sprintf("%s=%q, ", label(severityOf), severity)+inStack, stackOf)
}

func gate(b *board) ([]byte, error) {
	b.gateStats()
	b.row("Denied")
	b.gateDenied()
	b.row("Findings")
	b.gateFindings()
	b.row("Exceptions")
	b.gateExceptions()
	b.row("Records")
	b.table(24, 12, "What denies", "One for each finding that keeps a commit out, and once more after a restart.", records{message: telemetry.MsgFinding, stack: true, denies: true}, []string{
		telemetry.KeyStack, "Stack", telemetry.KeyFinding, "Finding", telemetry.KeySeverity, "Severity", telemetry.KeyObject, "Object", telemetry.KeyContainer, "Container", telemetry.KeyWhat, "What", telemetry.KeyFile, "File", telemetry.KeyField, "Field",
		telemetry.KeyFix, "What to do", telemetry.KeyRevision, "Revision"},
		column("What", "custom.width", 360, "custom.cellOptions", object{"type": "auto", "wrapText": true}),
		column("What to do", "custom.width", 300, "custom.cellOptions", object{"type": "auto", "wrapText": true}),
		column("Stack", "links", linkTo("plumbline-rollouts", "Rollouts of ${__value.raw}")))
	b.panel(24, 9, "logs", "All findings", "Those that deny are warnings; of others, the field exception says why they don't, where it isn't the policy. A line's fields say the rest.",
		[]object{b.logs.lines(b.logs.ask(records{message: telemetry.MsgFinding, stack: true}))})
	return b.finish("plumbline-gate", "Plumbline / Gate", "What the gate lets through, and what it has against the newest commit of each stack.", "now-7d")
}

func (b *board) gateStats() {
	sum := func(expr string) []object { return []object{at(fmt.Sprintf("sum(%s) or vector(0)", expr), "")} }
	count := func(expr string) []object { return []object{at(fmt.Sprintf("count(%s) or vector(0)", expr), "")} }
	b.panel(3, 4, "stat", "Denied", "Stacks whose newest commit the gate denies. What was let through before stays applied.", sum(deniedNow), steps("green", 1, "red"))
	b.panel(3, 4, "stat", "With findings", "Stacks against which the gate has something, whether it denies or not.", count(fmt.Sprintf("sum by (%s) (%s)", label(stackOf), findingsNow)), steps("blue"))
	of := func(severity, description string, more ...change) {
		b.panel(3, 4, "stat", severity, description, sum(found(severity)), more...)
	}
	of("CRITICAL", "Findings that deny by default. Those that an exception lets pass don't count here.", steps("green", 1, "red"))
	of("HIGH", "Findings that failOn: HIGH would deny.", steps("green", 1, "orange"))
	of("MEDIUM", "Findings that failOn: MEDIUM would deny.", steps("blue"))
	of("LOW", "Findings that failOn: LOW would deny.", steps("blue"))
	b.panel(3, 4, "stat", "Exceptions", "That let something pass until a day. Those without an end aren't measured.", count(exceptionsEnd), steps("blue"))
	b.panel(3, 4, "stat", "The next one ends in", "From then on, the gate denies what it was for.", []object{at(fmt.Sprintf("min(%s) - time()", exceptionsEnd), "")},
		unit("s"), field("decimals", 1), field("noValue", "none"), steps("red", 86400, "orange", soon, "green"))
}

func (b *board) gateDenied() {
	asked, names := []object{rows(deniedNow)}, []string{label(stackOf), "Stack", label(sourceOf), "Source"}
	var looks []change
	for i, s := range severities {
		asked = append(asked, rows(fmt.Sprintf("%s and on (%s) (%s)", found(s[0]), label(stackOf), deniedNow)))
		names = append(names, fmt.Sprintf("Value #%c", 'B'+i), s[0])
		looks = append(looks, countOf(s[0], s[1]))
	}
	all := append([]change{transform("joinByField", object{"byField": label(stackOf), "mode": "outer"})}, columns(names...)...)
	all = append(all, column("Stack", "links", linkTo("plumbline-rollouts", "Rollouts of ${__value.raw}")), field("noValue", ""))
	b.panel(12, 9, "table", "Denied now", "They stay at the last commit that was let through, if there was one. How many findings each has; \"What denies\" below has them.", asked, append(all, looks...)...)
	b.panel(12, 9, "timeseries", "Denied over time", "Each stack for as long as its newest commit is denied.",
		[]object{over(fmt.Sprintf("max by (%s) (%s)", label(stackOf), deniedNow), braces(stackOf))}, unit("short"), field("decimals", 0),
		custom("lineInterpolation", "stepAfter"), custom("stacking", object{"mode": "normal", "group": "A"}))
}

func (b *board) gateFindings() {
	asked, names := []object{rows(fmt.Sprintf("sum by (%s) (%s)", label(stackOf), findingsNow))}, []string{label(stackOf), "Stack"}
	var looks, colours []change
	for i, s := range severities {
		asked = append(asked, rows(found(s[0])))
		names = append(names, fmt.Sprintf("Value #%c", 'B'+i), s[0])
		looks = append(looks, countOf(s[0], s[1]))
		colours = append(colours, column(s[0], "color", object{"mode": "fixed", "fixedColor": s[1]}))
	}
	b.panel(12, 12, "timeseries", "By severity", "What the gate has against the newest commits, of all stacks that are chosen, but for what an exception lets pass.",
		[]object{over(fmt.Sprintf("sum by (%s) (%s)", label(severityOf), findingsNow), braces(severityOf))}, append([]change{unit("short"), field("decimals", 0),
			custom("lineInterpolation", "stepAfter"), custom("stacking", object{"mode": "normal", "group": "A"})}, colours...)...)
	all := append([]change{transform("joinByField", object{"byField": label(stackOf), "mode": "outer"})}, columns(append(names, "Value #A", "All")...)...)
	all = append(all, transform("sortBy", object{"fields": object{}, "sort": []object{{"field": "All", "desc": true}}}), field("noValue", ""),
		option("footer", object{"show": true, "reducer": []string{"sum"}, "countRows": false, "fields": ""}),
		column("Stack", "links", linkTo("plumbline-rollouts", "Rollouts of ${__value.raw}")))
	b.panel(12, 12, "table", "By stack and severity", "Now, and the sum of each at the end.", asked, append(all, looks...)...)
}

func (b *board) gateExceptions() {
	all := append([]change{transform("merge", object{})},
		columns(label(stackOf), "Stack", label(exceptionOf), "Exception", "Value #A", "Ends", "Value #B", "In")...)
	all = append(all, transform("sortBy", object{"fields": object{}, "sort": []object{{"field": "Ends", "desc": false}}}),
		column("Ends", "unit", "dateTimeAsIso"),
		column("In", "unit", "dtdurations", "custom.cellOptions", object{"type": "color-text"}, "thresholds", thresholds("red", 86400, "orange", soon, "green")),
		column("Stack", "links", linkTo("plumbline-rollouts", "Rollouts of ${__value.raw}")))
	b.panel(24, 9, "table", "When each ends", "From then on, it lets nothing pass. Those within two weeks are an alert, and a warning of their source. Those without an end aren't measured.", []object{
		rows(exceptionsEnd + " * 1000"), rows(exceptionsEnd + " - time()")}, all...)
}

// countOf is a column of a table that counts findings of a severity.
func countOf(name, colour string) change {
	return column(name, "decimals", 0, "custom.cellOptions", object{"type": "color-text"}, "thresholds", thresholds("text", 1, colour))
}
