package telemetry

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// StepOption tells more of a step.
type StepOption[In any] struct {
	about func(In) []attribute.KeyValue
	mask  func(In) func(string) string
}

// About gives the step's span attributes.
func About[In any](about func(In) []attribute.KeyValue) StepOption[In] {
	return StepOption[In]{about: about}
}

// Masked lets the text of the step's errors into its span, with every secret
// masked that the step's input knows of. Without it, only their class is there.
func Masked[In any](mask func(In) func(string) string) StepOption[In] {
	return StepOption[In]{mask: mask}
}

// Traced gives a step its span and its duration. The step itself knows nothing of it.
func Traced[In, Out any](r *Recorder, name string, step func(context.Context, In) (Out, error), options ...StepOption[In]) func(context.Context, In) (Out, error) {
	if r.off() {
		return step
	}
	return func(ctx context.Context, in In) (out Out, err error) {
		ctx, span := r.tracer.Start(ctx, name, trace.WithAttributes(AttrStep.String(name)))
		began, panicked := time.Now(), true
		var mask func(string) string
		for _, o := range options {
			if o.about != nil && span.IsRecording() {
				span.SetAttributes(readable(o.about(in))...)
			}
			if o.mask != nil {
				mask = o.mask(in)
			}
		}
		defer func() {
			result, class := r.result(err)
			if panicked { // goes on to whoever recovers
				result, class = ResultError, ClassPanic
			}
			r.measure(ctx, stepDuration, time.Since(began), name, string(result))
			span.SetAttributes(AttrStepResult.String(string(result)))
			conclude(span, result, class, masked(err, mask))
			span.End()
		}()
		out, err = step(ctx, in)
		panicked = false
		return out, err
	}
}

func masked(err error, mask func(string) string) string {
	if err == nil || mask == nil {
		return ""
	}
	return clip(mask(err.Error()))
}

// textBytes bounds a text in a span.
const textBytes = 4096

func clip(text string) string {
	if len(text) > textBytes {
		return strings.ToValidUTF8(text[:textBytes], "") + "…"
	}
	return Valid(text)
}

// Valid is a text as OTLP takes it. Of what isn't UTF-8 the exporters refuse the
// whole batch, with the records of others.
func Valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// readable makes the texts of attributes valid, in place.
func readable(attributes []attribute.KeyValue) []attribute.KeyValue {
	for i, kv := range attributes {
		if kv.Value.Type() == attribute.STRING {
			attributes[i] = kv.Key.String(Valid(kv.Value.AsString()))
		}
	}
	return attributes
}

// conclude marks a span as failed where it did. A cancellation is no failure.
func conclude(span trace.Span, result Result, class, text string) {
	if result == ResultSuccess || result == ResultCancellation {
		return
	}
	if class != "" {
		span.SetAttributes(AttrErrorType.String(class))
	}
	span.SetStatus(codes.Error, text)
}

// Classes of errors that are known here; whoever makes the Recorder may know more.
const (
	ClassInput    = "input"  // what is in Git can't be right
	ClassDenied   = "denied" // somebody does not allow it
	ClassCanceled = "canceled"
	ClassTimeout  = "timeout"
	ClassNetwork  = "network"
	ClassPanic    = "panic"
	ClassOther    = "_OTHER" // as semantic conventions have it
)

// result is what an error means for what it ended.
func (r *Recorder) result(err error) (result Result, class string) {
	if err == nil {
		return ResultSuccess, ""
	}
	switch class = r.class(err); class {
	case ClassCanceled:
		return ResultCancellation, class
	case ClassTimeout:
		return ResultTimeout, class
	case ClassInput, ClassDenied:
		return ResultFailure, class
	}
	return ResultError, class
}

func (r *Recorder) class(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return ClassCanceled
	case r.off():
	case r.options.Class != nil:
		if class := r.options.Class(err); class != "" {
			return class
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ClassTimeout
	case errors.As(err, &network) && network.Timeout():
		return ClassTimeout
	case errors.As(err, &network):
		return ClassNetwork
	}
	return ClassOther
}
