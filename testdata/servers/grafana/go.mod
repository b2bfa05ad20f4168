// For `go list -m` and `go mod download` only: nothing of Grafana's is compiled within this module.
module plumbline.dev/testdata/servers/grafana

go 1.26.0

require github.com/grafana/grafana v1.9.2-0.20230609164553-81d85ce8028d
