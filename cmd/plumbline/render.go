package main

import (
	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

func renderCommand(io streams) *cobra.Command {
	var repo repository
	cmd := &cobra.Command{
		Use:     "render",
		Short:   "Print the objects of a repository's stacks",
		Example: "  plumbline render --path ~/home-ops --stack grafana",
		Args:    cobra.NoArgs,
		Long: `Renders the stacks of a working tree as the daemon would, and prints their
objects as YAML. It needs no cluster. Where a stack can't be rendered, the
error says why, and the others are printed all the same.

What was sealed, and the data of every Secret, shows as a keyed hash. Sealed
files are opened with the keys that the configuration names, or where sops
itself looks for some (SOPS_AGE_KEY, SOPS_AGE_KEY_FILE, its directory); where
none fits, the values of the stack stay sealed, and that is said. References to
OpenBao stay as they are: it is not asked.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := secrets.NewHashKey()
			redactor := secrets.NewRedactor()
			tree, err := repo.render(cmd.Context(), io, redactor)
			if err != nil {
				return err
			}
			if err := repo.known(tree.names); err != nil {
				return err
			}
			var objects []render.Object
			for _, s := range tree.stacks {
				for _, o := range s.objects {
					o.Unstructured = apply.Shown(s.Name, o.Unstructured, redactor, key)
					objects = append(objects, o)
				}
			}
			out, err := render.YAML(objects)
			if err != nil {
				return err
			}
			if _, err := io.out.Write(out); err != nil {
				return err
			}
			return failures(tree.stacks)
		},
	}
	repo.add(cmd)
	return cmd
}
