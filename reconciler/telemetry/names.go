package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Scope is the instrumentation scope of everything here.
const Scope = "github.com/plumbline-dev/plumbline"

// Spans. A push is one trace: fetch, and for each stack whose inputs it changed a
// reconcile with its steps and its rollout.
const (
	SpanPush      = "push"
	SpanStart     = "start"
	SpanFetch     = "fetch"
	SpanReconcile = "reconcile" // followed by the name of the stack
	SpanRender    = "render"
	SpanScan      = "scan"
	SpanResolve   = "resolve"
	SpanPlan      = "plan"
	SpanApply     = "apply"
	SpanObserve   = "observe"
	SpanRollout   = "rollout"
)

// Attributes of spans and metrics: semantic conventions where there are any.
const (
	AttrStack       = attribute.Key("plumbline.stack")
	AttrSource      = attribute.Key("plumbline.source")
	AttrKind        = attribute.Key("plumbline.kind")
	AttrManager     = attribute.Key("plumbline.manager")
	AttrAction      = attribute.Key("plumbline.action")
	AttrReason      = attribute.Key("plumbline.reason")
	AttrTrigger     = attribute.Key("plumbline.trigger")
	AttrQueue       = attribute.Key("plumbline.queue")
	AttrVerb        = attribute.Key("plumbline.verb")
	AttrStatus      = attribute.Key("plumbline.status")
	AttrObjectState = attribute.Key("plumbline.object.state")
	AttrInputs      = attribute.Key("plumbline.inputs")
	AttrCertificate = attribute.Key("plumbline.certificate")
	AttrSeverity    = attribute.Key("plumbline.severity")
	AttrException   = attribute.Key("plumbline.exception")

	AttrPipeline   = semconv.CICDPipelineNameKey
	AttrRunID      = semconv.CICDPipelineRunIDKey
	AttrRunState   = semconv.CICDPipelineRunStateKey
	AttrResult     = semconv.CICDPipelineResultKey
	AttrStep       = semconv.CICDPipelineTaskNameKey
	AttrStepResult = semconv.CICDPipelineTaskRunResultKey
	AttrRevision   = semconv.VCSRefHeadRevisionKey
	AttrRef        = semconv.VCSRefHeadNameKey
	AttrRefType    = semconv.VCSRefHeadTypeKey
	AttrRepository = semconv.VCSRepositoryURLFullKey
	AttrErrorType  = semconv.ErrorTypeKey
	AttrVersion    = semconv.ServiceVersionKey
	AttrGoVersion  = semconv.ProcessRuntimeVersionKey
)

// Result is how a run, a step or a rollout ended, as cicd.pipeline.result has it.
type Result string

// Results.
const (
	ResultSuccess      Result = "success"
	ResultFailure      Result = "failure"      // what was to be done is to blame
	ResultError        Result = "error"        // what it was done with is
	ResultTimeout      Result = "timeout"      // it was not Ready when it should have been
	ResultCancellation Result = "cancellation" // newer inputs came, or the daemon stopped
	ResultSkip         Result = "skip"         // it is suspended, or waits to be confirmed
)

// Action is what is done about drift.
type Action string

// Actions.
const (
	ActionCorrect Action = "correct"
	ActionLeave   Action = "leave"   // the stack wants drift detected only
	ActionContend Action = "contend" // somebody insists: it is left until Git moves, or a hand
)

// Log messages. They are constant, so that they can be searched for; what varies
// is in the fields.
const (
	MsgRun               = "run"
	MsgRunFailed         = "run failed"
	MsgStackReady        = "stack ready"
	MsgStackBroken       = "stack broken"
	MsgSourceMoved       = "source moved"
	MsgSourceFailed      = "source failed"
	MsgRolloutFailed     = "rollout failed"
	MsgDrift             = "drift"
	MsgDriftResolved     = "drift resolved"
	MsgWatchFailed       = "watch failed"
	MsgSecretMoved       = "secret moved"
	MsgSecretsAway       = "secrets unavailable"
	MsgSecretsBack       = "secrets available again"
	MsgFinding           = "finding"
	MsgEventFailed       = "event not written"
	MsgTelemetryFailed   = "telemetry not exported"
	MsgTelemetrySettings = "telemetry setting ignored"
)

// Keys of log fields: one key per thing, in every record.
const (
	KeyStack    = "stack"
	KeySource   = "source"
	KeyRevision = "revision"
	KeyRef      = "ref"
	KeyTrigger  = "trigger"
	KeyTook     = "took"
	KeyLeadTime = "leadTime"
	KeyObjects  = "objects"
	KeyPlan     = "plan"
	KeyPath     = "path"
	KeyWhy      = "why"
	KeyError    = "error"
	KeyFile     = "file"
	KeyResource = "resource"

	// Of drift: see reconciler.Drift. Times are RFC 3339.
	KeyKind      = "kind"
	KeyNamespace = "namespace"
	KeyName      = "name"
	KeyWhat      = "what"
	KeyFields    = "fields" // a line each: path: as Git has it → as it was found
	KeyManager   = "manager"
	KeyOperation = "operation"
	KeyChanged   = "changed"
	KeySeen      = "seen"
	KeyDetected  = "detected"
	KeyAction    = "action"
	KeyCorrected = "corrected"
	KeySeconds   = "seconds" // from seen until corrected, as a number

	// Of a finding of the gate: see scan.Finding.
	KeyFinding       = "finding"         // its ID
	KeySeverity      = "findingSeverity" // severity is the record's own, in VictoriaLogs
	KeyKindOfFinding = "about"           // misconfiguration, secret, vulnerability, image, gate
	KeyTitle         = "title"
	KeyObject        = "object"
	KeyContainer     = "container"
	KeyField         = "field"
	KeyImage         = "image"
	KeyPackage       = "package"
	KeyDenies        = "denies"
	KeyFix           = "fix"
	KeyURL           = "url"
	KeyException     = "exception" // its statement

	KeyTrace = "trace_id" // as OpenTelemetry has it in other formats than its own
	KeySpan  = "span_id"
)

// Span is a kind of span.
type Span struct {
	Name, Parent string
	Text         string
}

// Spans lists the spans that there are.
func Spans() []Span {
	return []Span{
		{SpanPush, "", "A commit: from the look that found it until the last stack that it changed is Ready, or known not to become so. Carries `vcs.*`."},
		{SpanStart, "", "A daemon began, with the commit that was accepted before: what `push` is, but for `fetch`."},
		{SpanFetch, SpanPush, "Asking the remote, and fetching."},
		{SpanReconcile + " STACK", SpanPush, "What the commit means for one stack. It ends with its rollout, or when it is clear that there is none until somebody does something; `cicd.pipeline.result` says how. A run that no commit caused (drift, the resync, a hand, a secret that moved) is a trace of its own, linked to the one of the commit, and ends with the run."},
		{SpanRender, SpanReconcile + " STACK", "Files become objects; below `push` for stacks that are rendered to find out whether a commit changed them."},
		{SpanScan, SpanReconcile + " STACK", "The gate; below `push`, like the render of stacks whose inputs may have changed."},
		{SpanResolve, SpanReconcile + " STACK", "References become values."},
		{SpanPlan, SpanReconcile + " STACK", "What would change."},
		{SpanApply, SpanReconcile + " STACK", "It changes."},
		{SpanObserve, SpanReconcile + " STACK", "A first look at how the objects are doing."},
		{SpanRollout, SpanReconcile + " STACK", "From the begin of the apply until the stack is Ready, or overdue, or has newer inputs."},
	}
}

// Record is a kind of log record.
type Record struct {
	Message string
	Fields  []string
	Text    string // when it is written
}

// Records lists the log records that queries may rely on.
func Records() []Record {
	return []Record{
		{MsgDrift, []string{KeyStack, KeySource, KeyRevision, KeyKind, KeyNamespace, KeyName, KeyWhat, KeyFields, KeyManager, KeyOperation, KeyChanged, KeySeen, KeyDetected, KeyAction, KeyCorrected, KeySeconds, KeyError},
			"An object was not as Git wants it although Git had not moved: once for each drift, when it was put right or it is clear that it stays. `action` is `correct`, `leave` or `contend`; without `corrected` it is still there, and `error` is why correcting it failed. `seen` is when the watch told of it, `detected` when it was known what differs. `changed` and `manager` are absent where the object doesn't tell: who deletes something leaves no trace."},
		{MsgDriftResolved, []string{KeyStack, KeySource, KeyRevision, KeyKind, KeyNamespace, KeyName, KeyWhat, KeyManager, KeySeen, KeyDetected, KeyAction, KeyCorrected, KeySeconds}, "Drift that had stayed is gone."},
		{MsgRolloutFailed, []string{KeyStack, KeyRevision, KeyObjects, KeyTook, KeyWhy}, "A stack was not Ready in time; `why` says what it waits for, from its pods where they tell."},
		{MsgRun, []string{KeyStack, KeyTrigger, KeyRevision, KeyTook}, "A run changed something; with `--verbose`, any run."},
		{MsgRunFailed, []string{KeyStack, KeyTrigger, KeyRevision, KeyTook, KeyError}, "A run failed, otherwise than the one before."},
		{MsgStackReady, []string{KeyStack, KeyRevision, KeyObjects, KeyLeadTime}, "A stack became Ready with new inputs."},
		{MsgStackBroken, []string{KeySource, KeyFile, KeyError}, "A stack.yaml can't be read."},
		{MsgSourceMoved, []string{KeySource, KeyRevision, KeyRef, KeyTook}, "A source has a new commit."},
		{MsgSourceFailed, []string{KeySource, KeyError}, "A look at a source failed."},
		{MsgWatchFailed, []string{KeyResource, KeyError}, "A watch broke; it is tried again."},
		{MsgSecretMoved, []string{KeyStack, KeyPath, KeyWhy}, "OpenBao has something else than a stack read."},
		{MsgSecretsAway, []string{KeyStack, KeyError}, "OpenBao can't be read; what was read last stays."},
		{MsgSecretsBack, []string{KeyStack}, "It can be read again."},
		{MsgFinding, []string{KeyStack, KeySource, KeyRevision, KeyFinding, KeySeverity, KeyKindOfFinding, KeyTitle, KeyWhat, KeyObject, KeyContainer, KeyImage, KeyPackage, KeyFile, KeyField, KeyFix, KeyURL, KeyDenies, KeyException},
			"The gate has something against a stack's newest inputs: once for each finding, and once more after a restart. A warning where `denies` is true; `exception` is why it isn't."},
		{MsgEventFailed, []string{KeyStack, KeyError}, "A Kubernetes Event could not be written, at most once a minute; that it is forbidden, once."},
		{MsgTelemetryFailed, []string{KeyError}, "Spans, metrics or logs could not be exported; at most once a minute."},
		{MsgTelemetrySettings, []string{KeyError}, "An OTEL_* variable says what can't be done."},
	}
}
