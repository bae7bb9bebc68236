package main

import (
	"context"
	"errors"
	"net/http"

	"edged.dev/edged/api/admin"
	"edged.dev/edged/node"
)

// The exit codes. 4, an assertion that did not hold, belongs to policy tests
// and loadtest.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotReady = 3 // not ready, unreachable or timed out
	exitConflict = 5
	exitConfig   = 78 // EX_CONFIG of sysexits.h
)

var (
	// errUsage is wrapped by errors about how a command was called.
	errUsage = errors.New("usage")
	// errNotReady ends a command whose node answered that it is not ready.
	errNotReady = errors.New("the node is not ready")
	// errKilled ends serve at a second signal.
	errKilled = errors.New("stopped at once by a second signal")
)

// exitCode returns the code that an error ends the process with.
func exitCode(err error) int {
	var problem *admin.Problem
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, node.ErrConfig):
		return exitConfig
	case errors.Is(err, admin.ErrUnreachable), errors.Is(err, errNotReady), errors.Is(err, context.DeadlineExceeded):
		return exitNotReady
	case errors.As(err, &problem):
		return problemCode(problem.Status)
	}
	return exitFailed
}

func problemCode(status int) int {
	switch status {
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusBadGateway:
		return exitNotReady
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	}
	return exitFailed
}
