package main

import (
	"fmt"
	goio "io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/secrets/check"
)

func secretsCommand(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Look after the secrets of a repository",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(secretsCheckCommand(io))
	return cmd
}

func secretsCheckCommand(io streams) *cobra.Command {
	var repo repository
	var format output
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Find secrets that aren't kept as they should be",
		Example: "  plumbline secrets check --path ~/home-ops\n  plumbline secrets check -o json",
		Args:    cobra.NoArgs,
		Long: `Looks over a working tree, without any key and without a cluster, for

  NotSealed        values in clear that .sops.yaml says to seal
  StaleRecipients  files sealed for others than .sops.yaml says
  Credential       what looks like a credential, in clear
  PrivateKey       an age or PGP private key
  Damaged          sealed files that no key can open
  Rules, Unread    a .sops.yaml or a file that can't be made sense of

It shows no value. Symlinks and what .gitignore leaves out are not looked at. A
comment makes an exception of its line or of the one below:

  # plumbline:allow-secret REASON

Exit codes: 0 nothing was found, 1 an error, 2 something was.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stat(repo.path); err != nil || !info.IsDir() {
				return fmt.Errorf("--path %s: is not a directory", repo.path)
			}
			snapshot, err := repo.snapshot()
			if err != nil {
				return err
			}
			found, err := check.Tree(cmd.Context(), snapshot.FS)
			if err != nil {
				return err
			}
			if err := printFindings(io.out, format, found); err != nil {
				return err
			}
			if len(found) > 0 {
				return errDiffers
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&repo.path, "path", "p", ".", "directory of the repository")
	format.add(cmd)
	return cmd
}

func printFindings(w goio.Writer, format output, found []check.Finding) error {
	if !format.table() {
		return format.print(w, struct {
			Findings []check.Finding `json:"findings"`
		}{append([]check.Finding{}, found...)}) // [] says more than null
	}
	if len(found) == 0 {
		fmt.Fprintln(w, "nothing was found")
		return nil
	}
	err := printTable(w, func(w goio.Writer) {
		row(w, "KIND", "WHERE", "FIELD", "WHAT")
		for _, f := range found {
			row(w, string(f.Kind), where(f), f.Field, f.What)
		}
	})
	fmt.Fprintln(w, "\nWhat to do:")
	said := map[string]bool{}
	for _, f := range found {
		if !said[f.Fix] {
			fmt.Fprintf(w, "  %s: %s\n", f.Kind, f.Fix)
		}
		said[f.Fix] = true
	}
	return err
}

func where(f check.Finding) string {
	if f.Line == 0 {
		return f.File
	}
	return f.File + ":" + strconv.Itoa(f.Line)
}
