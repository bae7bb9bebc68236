package node

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecretBytes bounds a secret's file: more than a line is another file.
const maxSecretBytes = 4 << 10

// ReadSecret returns the first line of a file, without white space around it.
// An empty one is an error: it would be a door without a lock.
func ReadSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxSecretBytes+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(text) > maxSecretBytes {
		return "", fmt.Errorf("read secret: %s has more than %d bytes", path, maxSecretBytes)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return "", fmt.Errorf("read secret: the first line of %s is empty", path)
	}
	return line, nil
}
