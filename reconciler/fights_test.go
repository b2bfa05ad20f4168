package reconciler

import (
	"strings"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

func TestFights(t *testing.T) {
	id := apply.ID{Kind: "ConfigMap", Namespace: "o11y", Name: "a"}
	start := time.Now()
	for _, test := range []struct {
		name   string
		every  time.Duration
		fields []string
		rounds int
		at     int // the round in which it is over; 0: never
	}{
		{"at once", 0, []string{"spec.replicas"}, 100, 6},
		{"once a second", time.Second, []string{"spec.replicas"}, 100, 6},
		{"every ten seconds", 10 * time.Second, []string{"spec.replicas"}, 100, 9},
		{"every fifteen seconds", 15 * time.Second, []string{"spec.replicas"}, 1000, 0},
		{"an object that is deleted", time.Second, []string{""}, 100, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fights{}
			over := 0
			for i := range test.rounds {
				if field, now := f.count(id, test.fields, start.Add(time.Duration(i)*test.every)); now {
					if field != test.fields[0] {
						t.Errorf("blames %q", field)
					}
					over = i + 1
					break
				}
			}
			if over != test.at {
				t.Errorf("over in round %d, want %d", over, test.at)
			}
		})
	}
	t.Run("other fields each time", func(t *testing.T) {
		f := fights{}
		for i := range 1000 {
			if _, over := f.count(id, []string{strings.Repeat("x", i+1)}, start.Add(time.Duration(i)*time.Second)); over {
				t.Fatal("over")
			}
		}
		if n := len(f[id]); n > 200 {
			t.Errorf("%d fields are remembered", n)
		}
	})
}

func TestInsisted(t *testing.T) {
	change := apply.Change{ID: apply.ID{Group: "apps", Kind: "Deployment", Namespace: "o11y", Name: "web"}, Action: apply.ActionUpdate, Drift: apply.WayChanged}
	drift := Drift{Stack: "home.app", What: apply.WayChanged, Manager: "hpa", Fields: []apply.FieldChange{{Path: "spec.replicas"}}}
	rounds := func(s *stackState, d Drift) (said string) {
		for range 20 {
			if said = s.insisted(change, d); said != "" {
				return said
			}
		}
		return ""
	}
	with := func(f func(*Drift)) Drift { d := drift; f(&d); return d }
	for _, test := range []struct {
		name  string
		drift Drift
		want  string
	}{
		{"named", drift, "hpa takes spec.replicas back"},
		{"removed", with(func(d *Drift) { d.Manager = "" }), "somebody whom the object doesn't name removes spec.replicas"},
		{"deleted", with(func(d *Drift) { d.What, d.Manager = apply.WayDeleted, "" }), "deletes it"},
		{"taken over", with(func(d *Drift) { d.What = apply.WayTaken }), "hpa takes its fields over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if said := rounds(&stackState{}, test.drift); !strings.Contains(said, test.want) {
				t.Errorf("says %q, want %q", said, test.want)
			}
		})
	}
}
