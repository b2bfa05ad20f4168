package render

import "testing"

func TestVariablesLeaveReferencesToSecrets(t *testing.T) {
	vars := map[string]string{"ENV": "home"}
	for in, want := range map[string]string{
		"${bao:kv/grafana#password}":                 "${bao:kv/grafana#password}",
		"x ${bao:kv/${ENV}/grafana#password} ${ENV}": "x ${bao:kv/home/grafana#password} home",
		"$${bao:kv/grafana#password}":                "$${bao:kv/grafana#password}",
		"${ENV}$${bao:a#b}$${ENV}":                   "home$${bao:a#b}${ENV}",
	} {
		if got, wrong := expand(in, vars, 1<<20); got != want || len(wrong) > 0 {
			t.Errorf("%s becomes %s, %v; want %s", in, got, wrong, want)
		}
	}
}
