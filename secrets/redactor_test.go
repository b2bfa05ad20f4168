package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func redactorOf(values ...string) *Redactor {
	r := NewRedactor()
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
	r := NewRedactor()
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

func TestLeafOfADocument(t *testing.T) {
	r := NewRedactor()
	r.AddDocument([]byte("pin: 1234\n"))
	r.AddDocument([]byte("true\n"))
	for value, want := range map[any]bool{"pin: 1234\n": true, "pin: 1234": true, "cGluOiAxMjM0Cg==": true, "true\n": false, "true": false, true: false, "pin: 12345": false} {
		if got := r.Leaf("any", value); got != want {
			t.Errorf("Leaf(%q) = %v", value, got)
		}
	}
	if got := r.Text("pin: 1234\n"); got != "pin: 1234\n" {
		t.Errorf("a document is masked in texts: %q", got)
	}
}

// A name that is public is seen wherever it stands by itself, and nothing of another
// value with it.
func TestPublicNames(t *testing.T) {
	long := values["long"]
	name := long[32:64] // a chunk of a long value
	for title, c := range map[string]struct{ value, name string }{
		"a line of a short value":          {"first-line-1\nhome-ops-grafana\nlast-line-2", "home-ops-grafana"},
		"a line of a long value":           {"first-line-1\nhome-ops-grafana\n" + long[:100], "home-ops-grafana"},
		"a chunk":                          {long[:200], name},
		"a long name that begins alike":    {long[:200], long[:96] + "-end"},
		"a piece":                          {long[:48], long[12:24]},
		"the end of a value":               {long[:48], long[24:48]},
		"a chunk, that is a value as well": {long[:200], name},
		"a line, that is a value as well":  {"first-line-1\n" + name + "\n" + long[64:128] + "\n", name},
	} {
		for _, order := range []string{"added first", "named first", "added twice"} {
			t.Run(title+", "+order, func(t *testing.T) {
				r := NewRedactor()
				if order == "named first" {
					r.Public(c.name)
				}
				r.Add("k", []byte(c.value))
				if strings.HasSuffix(title, "as well") {
					r.Add("name", []byte(c.name))
				}
				r.Public(c.name)
				if order == "added twice" {
					r.Add("k", []byte(c.value))
					r.Public(strings.ToUpper(c.name))
				}
				for form, write := range writers {
					if !strings.HasPrefix(form, "base64") {
						if rest := strings.Trim(strings.ReplaceAll(r.Text(write(c.value)), Mask, ""), `"{a:}\ `); rest != "" {
							t.Errorf("as %s, %q is left of the value", form, rest)
						}
					}
				}
				if title != "a chunk" && title != "a long name that begins alike" && !strings.Contains(title, "well") && r.Text(c.name) != c.name {
					t.Errorf("the name: %s", r.Text(c.name))
				}
			})
		}
	}
	r := redactorOf("home-ops\n", "Home-Ops", "grafana-dashboards-token")
	r.Public("Home-Ops", "grafana-dashboards")
	const text = "Home-Ops/home-ops\n of grafana-dashboards"
	if got := r.Text(text); got != text {
		t.Errorf("%q is not as it was: %q", text, got)
	}
	if got := r.Text("grafana-dashboards-token"); got != Mask {
		t.Errorf("a value that begins like a name: %s", got)
	}
}

// hostile are sets of values that have much in common with each other, and texts
// that have it too.
func hostile() map[string]struct {
	values []string
	text   string
} {
	var one, two, lines, chunks []string
	long := values["long"]
	for i := range 58 {
		one = append(one, strings.Repeat("a", 6+i)+"b")
	}
	for i := range 2000 {
		two = append(two, "prefix"+strings.Repeat("x", i%58)+fmt.Sprint(i))
		lines = append(lines, strings.Repeat("\u00fc", i%20+3)+fmt.Sprint(i))
	}
	for i := range 128 {
		chunks = append(chunks, strings.Repeat("ab", 40+i)+fmt.Sprint(i)+strings.Repeat("ab", 4000))
	}
	return map[string]struct {
		values []string
		text   string
	}{
		"a letter":        {one, strings.Repeat("a", 1<<20)},
		"a letter, 7":     {one, strings.Repeat("aaaaaac", 1<<20/7)},
		"a prefix":        {two, strings.Repeat("prefixxxxxxx", 1<<20/12)},
		"characters":      {lines, strings.Repeat("\u00fc", 1<<19)},
		"escaped":         {lines, strings.Repeat(`\\u00fc`, 1<<20/7)},
		"chunks":          {chunks, strings.Repeat("ab", 1<<19)},
		"a long one":      {append(one, long[:4200], long), strings.Repeat("a", 1<<20)},
		"chunks in lines": {[]string{strings.Join(one, "\n")}, strings.Repeat("a", 1<<20)},
	}
}

func TestHostileValues(t *testing.T) {
	for name, c := range hostile() {
		r := redactorOf(c.values...)
		before := time.Now()
		r.Text(c.text)
		if took := time.Since(before); took > 700*time.Millisecond { // 1.4 s before; see the benchmark
			t.Errorf("%s took %s", name, took)
		}
		got := r.Text(c.text + " " + strings.Join(c.values, " ") + strings.Repeat(" and what follows", 1000) + " is seen")
		for _, v := range c.values {
			if strings.Contains(got, v) || strings.Contains(got, v[len(v)-min(len(v), 20):]) {
				t.Fatalf("%s shows %.100q", name, v)
			}
		}
		if !strings.Contains(got, "is seen") {
			t.Errorf("%s masks everything", name)
		}
	}
}

func BenchmarkHostile(b *testing.B) {
	for name, c := range hostile() {
		b.Run(name, func(b *testing.B) {
			r := redactorOf(c.values...)
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				r.Text(c.text)
			}
		})
	}
}

// However much is added, a redactor stays small, and says that it isn't enough.
func TestFull(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var lines strings.Builder
	for i := range 512 << 10 / 16 {
		fmt.Fprintf(&lines, "line-%09x-\n", i)
	}
	before := heap()
	r := redactorOf(lines.String())
	if size := int(heap() - before); size > 3<<20 || r.Full() || len(r.sources) > 300 {
		t.Errorf("a value of many lines takes %d bytes, %d sources; full: %t", size, len(r.sources), r.Full())
	}
	source := rand.New(rand.NewPCG(1, 2))
	added := 0
	for ; added < maxForms && !r.Full(); added++ {
		r.Add("k", fmt.Appendf(nil, "%x%x", source.Uint64(), source.Uint64()))
	}
	if !r.Full() {
		t.Fatal("it is never full")
	}
	r.Add("k", []byte("hunter2-hunter2"))
	if !r.Leaf("k", "hunter2-hunter2") || !r.Full() || len(r.forms) > maxForms {
		t.Errorf("%d forms", len(r.forms))
	}
	if size := int(heap() - before); size > 24<<20 {
		t.Errorf("a full one takes %d bytes", size)
	} else {
		t.Logf("a full one takes %.1f MB: %d values", float64(size)/1e6, added)
	}
	runtime.KeepAlive(r)
	r = NewRedactor()
	for i := 0; i <= maxForms; i++ {
		r.Add("k", fmt.Appendf(nil, "%x", i))
	}
	if !r.Full() {
		t.Error("values that go by their keys don't count")
	}
}

func TestOpened(t *testing.T) {
	r := NewRedactor()
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
	r.AddDocument([]byte("hunter2"))
	if r.Text("hunter2") != "hunter2" || r.Leaf("k", "hunter2") || r.Opened() || r.Full() || r.Error(fs.ErrExist) != fs.ErrExist { //nolint:errorlint // the error itself
		t.Error("a nil redactor does something")
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
	r := NewRedactor()
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
				if !r.Leaf("k", v) || !r.Opened() || strings.Contains(r.Error(errors.New(v)).Error(), v) {
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
	r := NewRedactor()
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

// formsOf lists the ways in which a value may be written down.
func formsOf(text string) []written {
	var out []written
	for _, p := range fragmentsOf(text) {
		out = append(out, p.forms()...)
	}
	return out
}

// fragmentsOf lists all by which a value is known.
func fragmentsOf(text string) []fragment {
	out := slices.Concat(cut(text), piecesIn(text))
	if trimmed := strings.TrimSpace(text); trimmed != text {
		out = slices.Concat(out, cut(trimmed), piecesIn(trimmed))
	}
	for line := range linesOf(text) {
		out = append(out, cut(line)...)
	}
	return out
}
