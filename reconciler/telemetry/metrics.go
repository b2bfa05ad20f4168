package telemetry

import (
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// Metric describes an instrument.
type Metric struct {
	Name       string
	Kind       MetricKind
	Unit       string // UCUM; in braces: what is counted
	Attributes []attribute.Key
	Text       string
	bounds     []float64
}

// MetricKind is how a metric is recorded.
type MetricKind string

// Kinds of metrics.
const (
	Counter   MetricKind = "counter"
	Gauge     MetricKind = "gauge"
	Histogram MetricKind = "histogram"
)

// Bounds of histograms, in seconds.
var (
	rolloutBounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	driftBounds   = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	leadBounds    = []float64{1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400}
	stepBounds    = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

// id names a metric in code.
type id int

const (
	stackReady id = iota
	stackStalled
	stackContended
	stackSuspended
	stackInfo
	stackObjects
	stackTransitions
	driftObjects
	driftDetected
	driftDetection
	driftCorrection
	runDuration
	runs
	rolloutDuration
	leadTime
	stepDuration
	fetchDuration
	renderDuration
	inputsCompared
	sourceMoves
	sourceFailing
	sourceSuccess
	queueDepth
	watchRestarts
	apiRequests
	secretReads
	baoAvailable
	certificateExpiry
	gateDenied
	gateFindings
	gateException
	buildInfo
	metricCount
)

func by(keys ...attribute.Key) []attribute.Key { return keys }

// table is every metric there is. Values are recorded in the order of Attributes.
var table = [metricCount]Metric{
	stackReady:       {"plumbline.stack.ready", Gauge, "", by(AttrStack, AttrSource), "1 when all objects of the stack are as Git wants them, and Ready.", nil},
	stackStalled:     {"plumbline.stack.stalled", Gauge, "", by(AttrStack, AttrSource), "1 when the stack can't go on without a person: broken, refused, or not Ready in time.", nil},
	stackContended:   {"plumbline.stack.contended", Gauge, "", by(AttrStack, AttrSource), "1 when another manager insists on its own values, and was left in peace.", nil},
	stackSuspended:   {"plumbline.stack.suspended", Gauge, "", by(AttrStack, AttrSource), "1 when the stack is suspended.", nil},
	stackInfo:        {"plumbline.stack.info", Gauge, "", by(AttrStack, AttrSource, AttrRevision), "Always 1: the commit at which the stack's inputs changed last.", nil},
	stackObjects:     {"plumbline.stack.objects", Gauge, "{object}", by(AttrStack, AttrObjectState), "Objects of the stack that are `ready`, and that are `pending`.", nil},
	stackTransitions: {"plumbline.stack.transitions", Counter, "{transition}", by(AttrStack, AttrReason), "How often the stack's reason for being Ready or not became this one.", nil},

	driftObjects:    {"plumbline.drift.objects", Gauge, "{object}", by(AttrStack, AttrKind), "Objects that are not as Git wants them, now.", nil},
	driftDetected:   {"plumbline.drift.detected", Counter, "{drift}", by(AttrKind, AttrManager, AttrAction), "Drifts, by who made them and what was done about it (`correct`, `leave`, `contend`).", nil},
	driftDetection:  {"plumbline.drift.detection.duration", Histogram, "s", by(AttrKind), "From the watch's event until it was known what drifted.", driftBounds},
	driftCorrection: {"plumbline.drift.correction.duration", Histogram, "s", by(AttrKind), "From there until it was put right.", driftBounds},

	runDuration: {"cicd.pipeline.run.duration", Histogram, "s", by(AttrPipeline, AttrRunState, AttrResult, AttrErrorType, AttrStack),
		"How long a run of a stack took; a rollout is not part of it.", stepBounds},
	runs:            {"plumbline.runs", Counter, "{run}", by(AttrTrigger, AttrResult), "Runs, by what caused them.", nil},
	rolloutDuration: {"plumbline.rollout.duration", Histogram, "s", by(AttrStack, AttrResult), "From the begin of an apply until the stack was Ready, or overdue, or newer inputs came.", rolloutBounds},
	leadTime:        {"plumbline.lead_time", Histogram, "s", by(AttrStack), "From the time of a commit until a stack that it changed was Ready.", leadBounds},
	stepDuration:    {"plumbline.step.duration", Histogram, "s", by(AttrStep, AttrStepResult), "How long each step of a run took.", stepBounds},
	renderDuration:  {"plumbline.render.duration", Histogram, "s", by(AttrStack, AttrStepResult), "How long rendering the stack took.", stepBounds},

	fetchDuration:  {"plumbline.fetch.duration", Histogram, "s", by(AttrSource, AttrStepResult), "How long a look at the source took, with the fetch if there was one.", stepBounds},
	inputsCompared: {"plumbline.inputs.compared", Counter, "{stack}", by(AttrSource, AttrInputs), "Stacks whose inputs a new commit `changed`, and left `unchanged`.", nil},
	sourceMoves:    {"plumbline.source.moves", Counter, "{commit}", by(AttrSource), "New commits.", nil},
	sourceFailing:  {"plumbline.source.failing", Gauge, "", by(AttrSource), "1 when the last look at the source failed.", nil},
	sourceSuccess:  {"plumbline.source.success.time", Gauge, "s", by(AttrSource), "When the source was looked at last without a failure, in Unix time.", nil},

	queueDepth:        {"plumbline.queue.depth", Gauge, "{stack}", by(AttrQueue), "Stacks that wait for a worker (`stacks`, `looks`) or for a status to be written (`statuses`).", nil},
	watchRestarts:     {"plumbline.watch.restarts", Counter, "{restart}", by(AttrKind), "Watches that broke and were started again.", nil},
	apiRequests:       {"plumbline.api.requests", Counter, "{request}", by(AttrVerb, AttrStatus), "Requests to the API server, by verb (`dry-run` is an apply that changes nothing) and class of the answer (`2xx` … `5xx`, `429`, `none`).", nil},
	secretReads:       {"plumbline.secret.reads", Counter, "{read}", by(AttrStepResult), "Values read from OpenBao for a run, and reads that failed.", nil},
	baoAvailable:      {"plumbline.openbao.available", Gauge, "", by(), "1 when OpenBao answered the last time, 0 when it did not; absent where none is configured.", nil},
	certificateExpiry: {"plumbline.certificate.expiry.time", Gauge, "s", by(AttrCertificate), "When a certificate expires that the daemon connects or checks a server with, in Unix time: `kubernetes client`, `kubernetes CA`, `openbao CA`, or `NAME CA` of a source. Of several in a file, the one that is next.", nil},
	gateDenied:        {"plumbline.gate.denied", Gauge, "", by(AttrStack, AttrSource), "1 when the gate denies the newest inputs of the stack.", nil},
	gateFindings:      {"plumbline.gate.findings", Gauge, "{finding}", by(AttrStack, AttrSeverity), "Findings in the newest inputs of the stack, but for those that an exception lets pass.", nil},
	gateException:     {"plumbline.gate.exception.expiry.time", Gauge, "s", by(AttrStack, AttrException), "When an exception of a stack from the gate expires, in Unix time.", nil},
	buildInfo:         {"plumbline.build.info", Gauge, "", by(AttrVersion, AttrGoVersion), "Always 1.", nil},
}

// Metrics lists every metric there is, in the order of the reference page.
func Metrics() []Metric { return slices.Clone(table[:]) }

// Prometheus is the metric's name on /metrics; a histogram has its series below it.
func (m Metric) Prometheus() string {
	name := PrometheusLabel(attribute.Key(m.Name))
	if m.Unit == "s" {
		name += "_seconds"
	}
	if m.Kind == Counter {
		name += "_total"
	}
	return name
}

// PrometheusLabel is an attribute's name on /metrics.
func PrometheusLabel(key attribute.Key) string { return strings.ReplaceAll(string(key), ".", "_") }
