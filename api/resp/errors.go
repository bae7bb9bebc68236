package resp

import (
	"fmt"
	"strings"

	"edged.dev/edged/internal/kv"
)

// Texts that clients know from Redis 7, word for word.
const (
	errSyntax     = "ERR syntax error"
	errNotInteger = "ERR value is not an integer or out of range"
	errCursor     = "ERR invalid cursor"
	errDB         = "ERR DB index is out of range"
	errNoAuth     = "NOAUTH Authentication required."
	errWrongPass  = "WRONGPASS invalid username-password pair or user is disabled."
	errNoPassword = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"
	errHelloAuth  = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	errProtoInt   = "ERR Protocol version is not an integer or out of range"
	errProto      = "NOPROTO unsupported protocol version"
	errClientName = "ERR Client names cannot contain spaces, newlines or special characters."
	errNXAndMore  = "ERR NX and XX, GT or LT options at the same time are not compatible"
	errGTAndLT    = "ERR GT and LT options at the same time are not compatible"
	errTimeoutInt = "ERR timeout is not an integer or out of range"
	errTimeoutNeg = "ERR timeout is negative"
)

// Texts of edged's own.
const (
	errBuffers  = "ERR the server's buffers are full; send and ask for less at once"
	errDraining = "ERR the server is shutting down"
)

// maxEcho is how much of an unknown command is repeated, as in Redis.
const maxEcho = 128

func unknownCommand(args [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ERR unknown command '%.*s', with args beginning with: ", maxEcho, args[0])
	said := 0
	for _, arg := range args[1:] {
		if said >= maxEcho {
			break
		}
		n, _ := fmt.Fprintf(&b, "'%.*s' ", maxEcho-said, arg) // a Builder never fails
		said += n
	}
	return b.String()
}

func unknownSubcommand(container string, sub []byte) string {
	return fmt.Sprintf("ERR unknown subcommand '%.*s'. Try %s HELP.", maxEcho, sub, strings.ToUpper(container))
}

// fail replies with an error and counts it under kind.
func (c *conn) fail(kind, text string) {
	c.srv.stats.fail(kind)
	c.out = appendError(c.out, text)
}

func (c *conn) syntax()     { c.fail("syntax", errSyntax) }
func (c *conn) notInteger() { c.fail("syntax", errNotInteger) }

func (c *conn) arity(name string) {
	c.fail("arity", "ERR wrong number of arguments for '"+name+"' command")
}

// keyOK replies with an error where the key is over its limits.
func (c *conn) keyOK(key []byte) bool {
	if len(key) > 0 && len(key) <= kv.MaxKeyBytes {
		return true
	}
	if len(key) > kv.MaxKeyBytes {
		c.srv.stats.reject("key")
	}
	c.storeError((&kv.Request{Key: key}).CheckSizes())
	return false
}

// storeError replies with what became of a request. The first word tells a
// client what to do: LOADING and TRYAGAIN have done nothing and may be tried
// again, UNKNOWN may have taken effect, OOM refuses writes only.
func (c *conn) storeError(err error) {
	code, text := kv.CodeOf(err), err.Error()
	switch code {
	case kv.CodeUnavailable, kv.CodeNotServing:
		text = "LOADING " + text
	case kv.CodeTimeout:
		text = "TRYAGAIN " + text
	case kv.CodeUnknown:
		text = "UNKNOWN " + text
	case kv.CodeNotInteger:
		text = errNotInteger
	case kv.CodeFull:
		text = "OOM command not allowed: " + text
	case kv.CodeInternal:
		text = "ERR internal error: " + text
	default:
		text = "ERR " + text
	}
	c.fail(code.String(), text)
}
