package observe

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// messageLimit bounds what is kept of a status message: other people's controllers write them.
const messageLimit = 256

// healthOf computes an object's status by kstatus, with a message unless it is Current. What kstatus cannot
// read is Unknown.
func healthOf(obj *unstructured.Unstructured) (health status.Status, message string) {
	defer func() {
		if r := recover(); r != nil { // kstatus asserts types that a custom resource need not have
			health, message = status.UnknownStatus, bounded(fmt.Sprintf("compute status: %v", r))
		}
	}()
	if obj.GetDeletionTimestamp() != nil {
		return status.TerminatingStatus, "Resource scheduled for deletion"
	}
	result, err := status.Compute(obj)
	switch {
	case err != nil:
		return status.UnknownStatus, bounded(fmt.Sprintf("compute status: %v", err))
	case result.Status == status.CurrentStatus:
		return result.Status, ""
	default:
		return result.Status, bounded(result.Message)
	}
}

// bounded cuts a message at messageLimit bytes, between characters. The result shares no memory with a longer one.
func bounded(message string) string {
	message = strings.ToValidUTF8(message, "\uFFFD")
	if len(message) <= messageLimit {
		return message
	}
	const ellipsis = "…"
	end := messageLimit - len(ellipsis)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + ellipsis
}
