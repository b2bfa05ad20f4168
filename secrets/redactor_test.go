package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

func redactorOf(values ...string) *Redactor {
	r := NewRedactor(NewHashKey())
	for _, v := range values {
		r.Add("key", []byte(v))
	}
	return r
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		values           []string
	}{
		{"none known", "a text", "a text", nil},
		{"none there", "a text", "a text", []string{"another"}},
		{"whole", "hunter2", Mask, []string{"hunter2"}},
		{"within", "a hunter2 b", "a " + Mask + " b", []string{"hunter2"}},
		{"within a word", "xhunter2x", "x" + Mask + "x", []string{"hunter2"}},
		{"twice", "hunter2 hunter2", Mask + " " + Mask, []string{"hunter2"}},
		{"next to itself", "hunter2hunter2", Mask, []string{"hunter2"}},
		{"next to another", "hunter2letmein", Mask, []string{"hunter2", "letmein"}},
		{"overlapping", "-abcdefghi-", "-" + Mask + "-", []string{"abcdef", "defghi"}},
		{"overlapping itself", "-abcabcabcabc-", "-" + Mask + "-", []string{"abcabcabc"}},
		{"one in another", "-abcdefghi-", "-" + Mask + "-", []string{"cdefgh", "abcdefghi"}},
		{"a common beginning", "-abcdefghi abcdefxyz-", "-" + Mask + "ghi " + Mask + "-", []string{"abcdef", "abcdefxyz"}},
		{"cut at the end", "hunter", "hunter", []string{"hunter2"}},
		{"trimmed", "a hunter2 b", "a " + Mask + " b", []string{"\thunter2\r\n"}},
		{"too short", "12345", "12345", []string{"12345"}},
		{"common", "Grafana and true", "Grafana and true", []string{"grafana", "true", " Grafana\n"}},
		{"the mask", "x" + Mask, "x" + Mask, []string{"REDACTED", Mask}},
		{"empty", "text", "text", []string{"", " ", "\n"}},
		{"nothing to look in", "", "", []string{"hunter2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := redactorOf(c.values...).Text(c.text); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestLeaf(t *testing.T) {
	r := NewRedactor(NewHashKey())
	r.Public("Home-Ops")
	r.Add("pin", []byte("1234"))
	r.Add("user", []byte("admin\n"))
	r.Add("repo", []byte("home-ops"))
	r.Add("token", []byte("hunter2"))
	r.Add("port", []byte("8443"))
	for _, c := range []struct {
		key   string
		value any
		want  bool
	}{
		{"pin", "1234", true}, {"pin", 1234, true}, {"port", int64(8443), true}, {"pin", "12345", false}, {"size", "1234", false},
		{"user", "admin\n", true}, {"user", "admin", true}, {"group", "admin", false},
		{"repo", "home-ops", true}, {"name", "home-ops", false},
		{"token", "hunter2", true}, {"elsewhere", "x hunter2 x", true}, {"elsewhere", []any{"hunter2"}, true},
		{"elsewhere", map[string]any{"a": "aHVudGVyMg=="}, true}, {"token", nil, false}, {"token", "", false},
		{"pin\x00", "1234", false}, {"", "pin\x001234", false},
	} {
		if got := r.Leaf(c.key, c.value); got != c.want {
			t.Errorf("Leaf(%q, %v) = %v", c.key, c.value, got)
		}
	}
	if got := r.Text("admin 1234 home-ops"); got != "admin 1234 home-ops" {
		t.Errorf("what goes by its key is masked in %q", got)
	}
}

func TestOpened(t *testing.T) {
	r := NewRedactor(NewHashKey())
	r.Add("k", nil)
	if r.Opened() {
		t.Error("opened by an empty value")
	}
	r.Add("k", []byte("1"))
	if !r.Opened() {
		t.Error("not opened by a short value")
	}
}

func TestNilRedactor(t *testing.T) {
	var r *Redactor
	r.Public("a")
	r.Add("k", []byte("hunter2"))
	if r.Text("hunter2") != "hunter2" || r.Leaf("k", "hunter2") || r.Opened() || r.Hash("x") != Mask || r.Error(fs.ErrExist) != fs.ErrExist { //nolint:errorlint // the error itself
		t.Error("a nil redactor does something")
	}
}

func TestHash(t *testing.T) {
	key := NewHashKey()
	a, b := NewRedactor(key), NewRedactor(key)
	if a.Hash("hunter2") != b.Hash("hunter2") {
		t.Error("runs with one key have different hashes")
	}
	if a.Hash("hunter2") == a.Hash("hunter3") || a.Hash("hunter2") == NewRedactor(NewHashKey()).Hash("hunter2") {
		t.Error("what differs has the same hash")
	}
	if strings.Contains(a.Hash("hunter2"), "hunter") {
		t.Error("the value is in its hash")
	}
}

func TestError(t *testing.T) {
	r := redactorOf("hunter2")
	path := &fs.PathError{Op: "open", Path: "/hunter2", Err: fs.ErrNotExist}
	once := r.Error(path)
	for name, err := range map[string]error{
		"once":                  once,
		"twice":                 r.Error(once),
		"wrapped before":        r.Error(fmt.Errorf("read: %w", path)),
		"wrapped after":         fmt.Errorf("read: %w", once),
		"leaks around a masked": r.Error(fmt.Errorf("log in with hunter2: %w", once)),
		"leaks beside a masked": r.Error(errors.Join(once, path)),
		"masked by another":     r.Error(redactorOf("another").Error(path)),
	} {
		t.Run(name, func(t *testing.T) {
			var found *fs.PathError
			if !errors.As(err, &found) || found != path || !errors.Is(err, fs.ErrNotExist) {
				t.Error("the cause isn't found in it")
			}
			var out strings.Builder
			for _, verb := range []string{"%v", "%+v", "%s", "%q", "%#v", "%x", "%d"} {
				if name != "wrapped after" || verb != "%#v" && verb != "%d" { // of fmt's own struct
					fmt.Fprintf(&out, verb+"\n", err)
				}
			}
			slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "error", err)
			slog.New(slog.NewTextHandler(&out, nil)).Info("text", "error", err)
			if strings.Contains(out.String(), "hunter") || strings.Contains(out.String(), "68756e746572") || !strings.Contains(out.String(), Mask) {
				t.Errorf("prints as %s", out.String())
			}
		})
	}
	if r.Error(nil) != nil {
		t.Error("no error became one")
	}
	if again := r.Error(once); again != once { //nolint:errorlint // the error itself
		t.Error("what is masked was masked again")
	}
	r.Add("k", []byte("not exist, or so"))
	late := r.Error(errors.New("late"))
	r.Add("k", []byte(late.Error()+"-later"))
	if got := r.Error(fmt.Errorf("%w-later", late)).Error(); got != Mask {
		t.Errorf("a value that was opened later: %q", got)
	}
}

func TestRedactorConcurrent(t *testing.T) {
	r := NewRedactor(NewHashKey())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				v := fmt.Sprintf("value-%d-%d", i, j)
				r.Add("k", []byte(v))
				r.Public(v + "-public")
				if got := r.Text("<" + v + ">"); got != "<"+Mask+">" {
					t.Errorf("%q", got)
				}
				if !r.Leaf("k", v) || !r.Opened() || r.Hash(v) == "" || strings.Contains(r.Error(errors.New(v)).Error(), v) {
					t.Errorf("%s isn't known", v)
				}
			}
		})
	}
	all.Wait()
}

// TestRedactorHoldsNoPlaintext looks for a value in all that the process has in
// memory, once nobody but the redactor knows it.
func TestRedactorHoldsNoPlaintext(t *testing.T) {
	parts := strings.Split("Zq7|xW2|pL9|vB4|kT6|mR1|hD8|cN3|yF5|gJ0|sQ4|uE7|aV2|oI6", "|")
	r := NewRedactor(NewHashKey())
	plain := func(n int) []byte { // built at run time: the binary's constants are in memory too
		var b []byte
		for i := range n {
			b = append(append(b, parts[(i*i+n)%len(parts)]...), parts[(i*7+3)%len(parts)]...)
		}
		return b
	}
	held := plain(9)
	done := make(chan struct{})
	go func() { // on a stack that is gone when the dump is made
		defer close(done)
		for _, n := range []int{4, 40, 2000} {
			r.Add("password", plain(n))
			if !r.Leaf("password", string(plain(n))) || strings.Contains(r.Text(string(plain(n))), string(plain(n))) {
				t.Error("the value isn't known")
			}
		}
	}()
	<-done
	dump := dumpHeap(t)
	if !strings.Contains(dump, string(held)) {
		t.Fatal("the dump doesn't hold what is in memory: the test would find nothing")
	}
	for _, n := range []int{4, 40, 2000} {
		for _, form := range []func(string) string{writers["raw"], writers["base64"], writers["base64 2"], writers["base64 3"], writers["hex"]} {
			v := form(string(plain(n)))
			for at := 0; at+16 <= min(len(v), 6000); at += 16 {
				if strings.Contains(dump, v[at:at+16]) {
					t.Fatalf("bytes %d to %d of a value of %d are in memory", at, at+16, len(v))
				}
			}
		}
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(held)
}

func dumpHeap(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "heap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	runtime.GC()
	runtime.GC() // the second empties the pools of the first
	debug.WriteHeapDump(f.Fd())
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// FuzzText never leaves a value, and never touches a text without it.
func FuzzText(f *testing.F) {
	for name, v := range values {
		if name == "long" {
			continue // slow, and chunks are in others too
		}
		f.Add([]byte(v), "before", "after", 0)
		f.Add([]byte(v), v, v, 3)
	}
	f.Add([]byte("aaaaaaa"), "aaa", "aaaaaaaaa", 0)
	f.Add([]byte("]secret"), "]secret", "secret", 0)
	names := slices.Sorted(maps.Keys(writers))
	f.Fuzz(func(t *testing.T, value []byte, before, after string, form int) {
		v := string(value)
		r := redactorOf(v)
		if trimmed := strings.TrimSpace(v); r.usual(trimmed) || sharesEdge(trimmed) {
			return
		}
		written := writers[names[uint(form)%uint(len(names))]](v)
		for _, text := range []string{before + written + after, before + v + after} {
			got := r.Text(text)
			if got == text || strings.Contains(got, v) || !strings.Contains(got, Mask) {
				t.Errorf("%q is left in %q", v, got)
			}
		}
		surroundings := before + after
		for _, form := range formsOf(v) {
			if strings.Contains(surroundings, form.text) {
				return
			}
		}
		if got := r.Text(surroundings); got != surroundings {
			t.Errorf("%q became %q without holding %q", surroundings, got, v)
		}
	})
}

// sharesEdge is true of a value that the mask and the text beside it can make up.
func sharesEdge(v string) bool {
	return strings.Contains(v, Mask) || strings.HasPrefix(v, "]") || strings.HasSuffix(v, "[") ||
		strings.ContainsAny(v[:1]+v[len(v)-1:], Mask)
}

func hundred() []string {
	raw := fmt.Sprintf("%x", pseudorandom(100*20))
	var out []string
	for i := range 100 {
		out = append(out, raw[40*i:40*i+40])
	}
	return out
}

func megabyte() string {
	line := `{"level":"info","msg":"reconciled","stack":"home-ops.grafana","objects":"14/14","took":"1.25s","revision":"4c0ffee"}` + "\n"
	return strings.Repeat(line, 1<<20/len(line))
}

func BenchmarkText(b *testing.B) {
	text := megabyte()
	mixed := strings.Builder{}
	for i, v := range hundred() {
		mixed.WriteString(text[i*10000:(i+1)*10000] + v)
	}
	for name, c := range map[string]struct {
		values []string
		text   string
	}{
		"values=0":         {nil, text},
		"values=100":       {hundred(), text},
		"values=100/found": {hundred(), mixed.String()},
		"values=100/4KiB":  {long(100), text},
		"values=1/1MiB":    {[]string{fmt.Sprintf("%x", pseudorandom(1<<19))}, text},
		"spaces":           {[]string{"          " + values["long"]}, strings.Repeat(" ", 1<<20)},
	} {
		b.Run(name, func(b *testing.B) {
			r := redactorOf(c.values...)
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				r.Text(c.text)
			}
		})
	}
}

func long(n int) []string {
	raw := fmt.Sprintf("%x", pseudorandom(n*2048))
	var out []string
	for i := range n {
		out = append(out, raw[4096*i:4096*(i+1)])
	}
	return out
}

// BenchmarkAdd reports what a value costs for as long as the redactor lives.
func BenchmarkAdd(b *testing.B) {
	for name, values := range map[string][]string{"40B": hundred(), "4KiB": long(100), "key": {values["key"]}, "none": nil} {
		b.Run(name, func(b *testing.B) {
			var kept []*Redactor
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				kept = append(kept, redactorOf(values...))
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(kept)*max(len(values), 1)), "B/value")
			runtime.KeepAlive(kept)
		})
	}
}
