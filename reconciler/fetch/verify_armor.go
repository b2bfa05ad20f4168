package fetch

import (
	"encoding/base64"
	"errors"
	"strings"
)

// checkArmor refuses text in a signature that readers of armor skip: it could be added without the key, and give an old
// commit a new id. This does not make ids unique (ECDSA signatures and OpenPGP packets can be varied, too): that
// nothing old comes back is up to checkRewrite.
func checkArmor(signature string) error {
	lines := strings.Split(strings.TrimSuffix(signature, "\n"), "\n")
	if n := len(lines); lines[n-1] == "" { // GitHub ends the signatures that it makes with an empty line
		lines = lines[:n-1]
	}
	if len(lines) < 3 || lines[len(lines)-1] != strings.Replace(lines[0], "BEGIN", "END", 1) {
		return errors.New("its signature has text behind its end, or no end")
	}
	body := lines[1 : len(lines)-1]
	if lines[0] == gpgArmor {
		var err error
		if body, err = openPGPBody(body); err != nil {
			return err
		}
	}
	return checkBase64(body)
}

// openPGPBody takes off the headers, which old versions of gpg write, and the checksum, which new ones leave out.
func openPGPBody(lines []string) ([]string, error) {
	for len(lines) > 0 && lines[0] != "" {
		if !strings.HasPrefix(lines[0], "Version: ") && !strings.HasPrefix(lines[0], "Comment: ") {
			return nil, errors.New("its signature has a header that is neither Version nor Comment")
		}
		lines = lines[1:]
	}
	if len(lines) < 2 {
		return nil, errors.New("its signature is empty")
	}
	lines = lines[1:]
	if last := len(lines) - 1; strings.HasPrefix(lines[last], "=") && len(lines[last]) == 5 {
		lines = lines[:last]
	}
	return lines, nil
}

// checkBase64 wants lines of one width, of which the last may be shorter. The width itself differs between signers.
func checkBase64(lines []string) error {
	for i, l := range lines {
		if last := i == len(lines)-1; l == "" || len(l) > len(lines[0]) || !last && len(l) != len(lines[0]) {
			return errors.New("its signature has lines that do not belong there")
		}
	}
	all := strings.Join(lines, "")
	if _, err := base64.StdEncoding.Strict().DecodeString(all); err != nil || strings.Contains(all, "\r") { // which is skipped there
		return errors.New("its signature holds more than base64")
	}
	return nil
}
