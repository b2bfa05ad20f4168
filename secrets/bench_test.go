package secrets_test

import "testing"

// What a sealed manifest costs in a run of its own: keys read, opened, known to a redactor.
func BenchmarkOpen(b *testing.B) {
	id, to := ageKey(b)
	all := tree("a.yaml", sealFor(to).with(onlyData).seal(b, "a.yaml", manifest))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ours(id).Files(b.Context(), all, newRedactor()).ReadFile("a.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}

// What nearly every file costs.
func BenchmarkPlain(b *testing.B) {
	all := tree("a.yaml", manifest)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ours().Files(b.Context(), all, nil).ReadFile("a.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
