package secrets

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ChecksumAnnotation is on the pod template of a workload that restarts when a
// Secret which it uses changes.
const ChecksumAnnotation = "plumbline.dev/secrets-checksum"

// podTemplates is where the kinds that can be restarted in place hold theirs.
var podTemplates = map[string][]string{
	"Deployment.apps": {"spec", "template"}, "StatefulSet.apps": {"spec", "template"}, "DaemonSet.apps": {"spec", "template"},
	"CronJob.batch": {"spec", "jobTemplate", "spec", "template"},
}

// secretName names a Secret within a stack.
type secretName struct{ namespace, name string }

// Checksums notes on every workload of a stack which values the Secrets have that
// it uses, as far as they are of the same stack: a change of a value changes the
// pod template. Where one of these is among the unread, nobody can say what the
// note would be: such workloads come back as left. What is changed is a copy. The
// notes of other stacks and namespaces can't be compared with these.
func Checksums(stack string, objects, unread []Object, key HashKey) (made, left []Object) {
	contents, unknown := map[secretName]string{}, map[secretName]bool{}
	for _, o := range objects {
		if isSecret(o) {
			raw, _ := json.Marshal([]any{o.Object["data"], o.Object["stringData"], o.Object["type"]}) // of what was JSON a moment ago
			contents[secretName{o.GetNamespace(), o.GetName()}] = string(raw)
		}
	}
	for _, o := range unread {
		unknown[secretName{o.GetNamespace(), o.GetName()}] = isSecret(o)
	}
	for _, o := range objects {
		path, used := uses(o)
		if slices.ContainsFunc(used, func(n secretName) bool { return unknown[n] }) {
			left = append(left, o)
			continue
		}
		var parts []string
		for _, name := range used {
			if content, ours := contents[name]; ours {
				parts = append(parts, name.name, content)
			}
		}
		if len(parts) > 0 {
			parts = append([]string{stack, o.GetNamespace()}, parts...)
			o.Unstructured = o.DeepCopy()
			checksum := hex.EncodeToString(key.Sum("checksum", parts...)[:16])
			_ = unstructured.SetNestedField(o.Object, checksum, slices.Concat(path, []string{"metadata", "annotations", ChecksumAnnotation})...) // annotations that are no map, the server refuses
		}
		made = append(made, o)
	}
	return made, left
}

func isSecret(o Object) bool { return o.GetKind() == "Secret" && o.GroupVersionKind().Group == "" }

// uses lists the Secrets that the pods of a workload use, sorted, and where its
// pod template is.
func uses(o Object) (path []string, names []secretName) {
	path, ok := podTemplates[o.GroupVersionKind().GroupKind().String()]
	if !ok {
		return nil, nil
	}
	spec, _, _ := unstructured.NestedMap(o.Object, append(slices.Clone(path), "spec")...)
	used := map[string]bool{}
	secretNames("", spec, used)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		names = append(names, secretName{o.GetNamespace(), name})
	}
	return path, names
}

// secretNames finds the Secrets that a pod uses, wherever its spec may name one:
// env, envFrom, volumes of any kind. Those for pulling images restart nothing.
func secretNames(under string, value any, used map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			text, isText := child.(string)
			switch {
			case key == "imagePullSecrets":
			case isText && (key == "secretName" || (key == "name" && (under == "secretRef" || under == "secretKeyRef" || under == "secret"))):
				used[text] = true
			default:
				secretNames(key, child, used)
			}
		}
	case []any:
		for _, child := range v {
			secretNames(under, child, used)
		}
	}
}
