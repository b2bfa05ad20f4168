package expressions

import (
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Family is the kinds of one operator.
type Family struct {
	Name    string
	Group   string
	Version string // of the operator whose schemas the expressions were checked against; "": no schema was at hand
	Kinds   []Kinds
}

// Kinds are judged alike.
type Kinds struct {
	Names                  string // separated by spaces
	Ready, Failed, Message string
	Text                   string // for the reference
}

// Shipped lists the expressions that come with the program. Where its names are the same, a condition means the same
// to all of these operators; the rest is what each says of itself.
func Shipped() []Family {
	return []Family{prometheus(), openTelemetry(), victoriaMetrics(), certManager(), acme(), cloudNativePG(), strimzi(), gatewayAPI(), externalSecrets()}
}

// is, isNot and says are about one condition.
func is(kind string) string    { return conditionIs(kind, "True") }
func isNot(kind string) string { return conditionIs(kind, "False") }

func conditionIs(kind, state string) string {
	return fmt.Sprintf(`object.status.conditions.exists(c, c.type == %q && c.status == %q)`, kind, state)
}

func says(kind string) string {
	return fmt.Sprintf(`object.status.conditions.filter(c, c.type == %q)[0].message`, kind)
}

const static = "Nothing becomes of it by itself."

func prometheus() Family {
	return Family{"Prometheus operator", "monitoring.coreos.com", "v0.93.0", []Kinds{
		{Names: "Prometheus PrometheusAgent Alertmanager ThanosRuler", Ready: is("Available") + " && " + is("Reconciled"), Failed: isNot("Reconciled"),
			Text: "Paused is not ready: nobody looks after it."},
		{Names: "ServiceMonitor PodMonitor PrometheusRule Probe ScrapeConfig AlertmanagerConfig", Ready: "true", Text: static},
	}}
}

func openTelemetry() Family {
	return Family{"OpenTelemetry operator", "opentelemetry.io", "v0.140.0", []Kinds{
		{Names: "OpenTelemetryCollector",
			Ready: `object.status.version != "" && (object.status.?scale.?statusReplicas.orValue("") == "" || ` +
				`[object.spec.?replicas.orValue(object.status.scale.?replicas.orValue(0))].all(n, object.status.scale.statusReplicas == string(n) + "/" + string(n)))`,
			Message: `object.status.scale.statusReplicas + " replicas are ready"`,
			Text:    "A daemonset or sidecar tells no number of replicas."},
		{Names: "OpAMPBridge TargetAllocator", Ready: `object.status.version != ""`},
		{Names: "Instrumentation", Ready: "true", Text: static},
	}}
}

func victoriaMetrics() Family {
	failed := `object.status.updateStatus == "failed"`
	message := `object.status.?reason.orValue("") != "" ? object.status.reason : object.status.updateStatus`
	return Family{"VictoriaMetrics operator", "operator.victoriametrics.com", "v0.74.1", []Kinds{
		{Names: "VMSingle VMCluster VMAgent VMAlert VMAlertmanager VMAuth VMAnomaly VMDistributed VLogs VLSingle VLCluster VLAgent VLDistributed VTSingle VTCluster",
			Ready: `object.status.updateStatus == "operational"`, Failed: failed, Message: message, Text: "Paused is not ready: nobody looks after it."},
		{Names: "VMServiceScrape VMPodScrape VMNodeScrape VMStaticScrape VMScrapeConfig VMProbe VMRule VMUser VMAlertmanagerConfig VMAnomalyConfig",
			Ready: `object.?status.?updateStatus.orValue("ignored") in ["operational", "ignored"]`, Failed: failed, Message: message,
			Text: "Ready as long as nobody has picked it up."},
	}}
}

func certManager() Family {
	return Family{"cert-manager", "cert-manager.io", "v1.21.2", []Kinds{
		{Names: "Certificate", Ready: is("Ready"),
			Failed:  `!` + is("Ready") + ` && object.status.conditions.exists(c, c.type == "Issuing" && c.status == "False" && c.reason == "Failed")`,
			Message: `(object.status.conditions.filter(c, c.type == "Issuing") + object.status.conditions.filter(c, c.type == "Ready"))[0].message`},
		{Names: "Issuer ClusterIssuer", Ready: is("Ready")},
		{Names: "CertificateRequest", Ready: is("Ready"),
			Failed:  is("Denied") + " || " + is("InvalidRequest") + ` || object.status.conditions.exists(c, c.type == "Ready" && c.reason in ["Failed", "Denied"])`,
			Message: `object.status.conditions.filter(c, c.type in ["Denied", "InvalidRequest"] && c.status == "True" || c.type == "Ready")[0].message`},
	}}
}

func acme() Family {
	return Family{"cert-manager", "acme.cert-manager.io", "v1.21.2", []Kinds{
		{Names: "Order Challenge", Ready: `object.status.state == "valid"`, Failed: `object.status.state in ["invalid", "expired", "errored"]`,
			Message: `object.status.state + (has(object.status.reason) ? ": " + object.status.reason : "")`},
	}}
}

func cloudNativePG() Family {
	applied := Kinds{Names: "Database DatabaseRole Publication Subscription", Ready: `object.status.applied`, Failed: `!object.status.applied`, Message: `object.status.message`}
	return Family{"CloudNativePG", "postgresql.cnpg.io", "v1.30.0", []Kinds{
		{Names: "Cluster", Ready: `object.status.phase == "Cluster in healthy state" && ` + is("Ready") + ` && object.status.?readyInstances.orValue(0) == object.spec.instances`,
			Failed: `object.status.phase in ["Cluster is unrecoverable and needs manual intervention", "Invalid cluster definition", ` +
				`"Unable to create required cluster objects", "Cluster has incomplete or invalid image catalog"] || ` +
				`object.status.phase.startsWith("Cluster cannot ")`,
			Message: `object.status.phase + (has(object.status.phaseReason) ? ": " + object.status.phaseReason : "")`},
		{Names: "Pooler", Ready: `has(object.status.phase) ? object.status.phase in ["active", "paused"] : object.status.instances == object.spec.?instances.orValue(1)`,
			Failed: `object.status.phase == "failed"`, Message: `object.status.phase + (has(object.status.phaseReason) ? ": " + object.status.phaseReason : "")`,
			Text: "Paused, it works: it holds connections back."},
		{Names: "ScheduledBackup", Ready: `object.spec.?suspend.orValue(false) || has(object.status.lastCheckTime)`, Message: `object.status.error`,
			Text: "When it has been looked at; its backups are objects of their own."},
		{Names: "Backup", Ready: `object.status.phase == "completed"`, Failed: `object.status.phase in ["failed", "walArchivingFailing", "invalid backup definition"]`,
			Message: `object.status.phase + (has(object.status.error) ? ": " + object.status.error : "")`},
		applied,
	}}
}

func strimzi() Family {
	message := says("NotReady")
	return Family{"Strimzi", "kafka.strimzi.io", "", []Kinds{
		{Names: "Kafka KafkaTopic KafkaUser KafkaConnect KafkaConnector KafkaMirrorMaker2 KafkaBridge", Ready: is("Ready"), Failed: is("NotReady"), Message: message},
		{Names: "KafkaNodePool", Ready: `size(object.status.nodeIds) > 0 && !object.status.?conditions.orValue([]).exists(c, c.type == "NotReady" && c.status == "True")`,
			Failed: is("NotReady"), Message: message},
		{Names: "KafkaRebalance", Ready: is("Ready") + " || " + is("ProposalReady"), Failed: is("NotReady"), Message: message,
			Text: "A proposal is ready for whoever has to approve it."},
	}}
}

func gatewayAPI() Family {
	const asked = `p.parentRef.name == r.name && [object.metadata.?namespace.orValue("")].all(n, p.parentRef.?namespace.orValue(n) == r.?namespace.orValue(n)) && ` +
		`p.parentRef.?sectionName.orValue("") == r.?sectionName.orValue("")`
	const accepted = `["Accepted", "ResolvedRefs"].all(t, p.conditions.exists(c, c.type == t && c.status == "True"))`
	const lacking = `c, c.type in ["Accepted", "ResolvedRefs"] && c.status != "True"`
	message := func(list, which string) string {
		return `object.status.` + list + `.filter(p, ` + which + `p.conditions.exists(` + lacking + `))[0].conditions.filter(` + lacking + `)[0].message`
	}
	return Family{"Gateway API", "gateway.networking.k8s.io", "v1.6.3", []Kinds{
		{Names: "GatewayClass", Ready: is("Accepted"), Failed: isNot("Accepted")},
		{Names: "Gateway ListenerSet", Ready: is("Accepted") + " && " + is("Programmed"), Failed: isNot("Accepted")},
		{Names: "HTTPRoute GRPCRoute TLSRoute TCPRoute UDPRoute",
			Ready:   `object.spec.?parentRefs.orValue([]).all(r, object.status.parents.exists(p, ` + asked + ` && ` + accepted + `))`,
			Message: message("parents", `object.spec.parentRefs.exists(r, `+asked+`) && `),
			Text:    "Each parent that it asks for has accepted it, and found what it refers to."},
		{Names: "BackendTLSPolicy", Ready: `size(object.status.ancestors) > 0 && object.status.ancestors.all(p, ` + accepted + `)`, Message: message("ancestors", "")},
		{Names: "ReferenceGrant", Ready: "true", Text: static},
	}}
}

func externalSecrets() Family {
	synced := `object.status.syncedResourceVersion.startsWith(string(object.metadata.generation) + "-")`
	never := `object.spec.?refreshInterval.orValue("1h") in ["0", "0s"]`
	return Family{"External Secrets", "external-secrets.io", "v1.3.2", []Kinds{
		{Names: "ExternalSecret", Ready: is("Ready") + ` && (object.spec.?refreshPolicy.orValue("") == "CreatedOnce" || ` + never + ` || ` + synced + `)`, Failed: isNot("Ready"),
			Text: "What it says of an older generation counts where it is never to be read again."},
		{Names: "PushSecret", Ready: is("Ready") + ` && (` + never + ` || ` + synced + `)`, Failed: isNot("Ready")},
		{Names: "ClusterExternalSecret ClusterPushSecret SecretStore ClusterSecretStore", Ready: is("Ready"), Failed: isNot("Ready")},
	}}
}

// A Library has the shipped expressions at hand, and compiles each when its kind is first seen.
type Library struct {
	kinds map[schema.GroupKind]func() (*Program, error)
}

// NewLibrary returns the shipped expressions.
func NewLibrary() *Library {
	l := &Library{kinds: map[schema.GroupKind]func() (*Program, error){}}
	for _, family := range Shipped() {
		for _, e := range family.Expressions() {
			l.kinds[e.Kind] = sync.OnceValues(func() (*Program, error) { return Compile(e) })
		}
	}
	return l
}

// Expressions lists those of the family, one for each kind.
func (f Family) Expressions() (all []Expression) {
	for _, k := range f.Kinds {
		for name := range strings.FieldsSeq(k.Names) {
			all = append(all, Expression{schema.GroupKind{Group: f.Group, Kind: name}, k.Ready, k.Failed, k.Message})
		}
	}
	return all
}

// For returns the program for a kind; nil where none is shipped.
func (l *Library) For(kind schema.GroupKind) (*Program, error) {
	if once, ok := l.kinds[kind]; ok {
		return once()
	}
	return nil, nil
}
