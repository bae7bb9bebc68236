// Command edged runs a node of an edge cache cluster and talks to running
// ones. It turns flags into node.Config and commands into calls of the admin
// API, signals into a context, and errors into an exit code.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], system{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}))
}
