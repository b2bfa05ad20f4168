package main

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/render"
)

type scopeFunc = func(schema.GroupKind) (namespaced, known bool)

func renderCommand(io streams) *cobra.Command {
	var repo repository
	cmd := &cobra.Command{
		Use:     "render",
		Short:   "Print the objects of a repository's stacks",
		Example: "  plumbline render --path ~/home-ops --stack grafana",
		Args:    cobra.NoArgs,
		Long: `Renders the stacks of a working tree as the daemon would, and prints their
objects as YAML. It needs no cluster. Where a stack can't be rendered, the
error says why, and the others are printed all the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stacks, err := repo.render(cmd.Context(), render.Kustomize, nil)
			if err != nil {
				return err
			}
			var objects []render.Object
			for _, s := range stacks {
				objects = append(objects, s.objects...)
			}
			out, err := render.YAML(objects)
			if err != nil {
				return err
			}
			if _, err := io.out.Write(out); err != nil {
				return err
			}
			return failures(stacks)
		},
	}
	repo.add(cmd)
	return cmd
}
