package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/templates"
)

func schemaCommand(io streams) *cobra.Command {
	return &cobra.Command{
		Use:       "schema stack|config",
		Short:     "Print the JSON Schema of stack.yaml or plumbline.yaml",
		ValidArgs: []string{"stack", "config"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: `Prints a JSON Schema, for editors and CI. With the YAML language server, a first
line in the file is enough:
  # yaml-language-server: $schema=./stack.schema.json`,
		RunE: func(_ *cobra.Command, args []string) error {
			raw, err := templates.FS.ReadFile("schemas/" + args[0] + ".schema.json")
			if err != nil {
				return fmt.Errorf("schema %s: %w", args[0], err)
			}
			_, err = io.out.Write(raw)
			return err
		},
	}
}
