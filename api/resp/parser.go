package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// span is where an argument lies, counted from the command's first byte, so
// that it stays true when the buffer moves.
type span struct{ start, end int }

// parser takes commands off a buffer that grows at its end. It keeps its place
// in a command that is not whole yet, copies nothing, and never trusts a length
// before it has checked the limit.
type parser struct {
	early bool // the client has not authenticated
	// args are the arguments of the command found last. They point into the
	// buffer given to next, or for an inline command into memory of their own.
	args [][]byte

	spans []span
	pos   int // next byte to look at
	left  int // arguments still to come, 0 = no header read yet
	bulk  int // length of the argument at pos, -1 = not read yet
}

// protocolError ends a connection: what follows it in the stream means nothing.
type protocolError struct{ text, limit string }

// Error returns the text in Redis' words.
func (e *protocolError) Error() string { return "Protocol error: " + e.text }

func violation(text string) error { return &protocolError{text: text} }

func overLimit(limit, format string, args ...any) error {
	return &protocolError{text: fmt.Sprintf(format, args...), limit: limit}
}

// next returns how many bytes of buf the command at its start takes, or 0
// where it is not whole yet: call again with the same bytes and more. A command
// of no arguments (an empty line) leaves args empty.
func (p *parser) next(buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if buf[0] != '*' {
		return p.inline(buf)
	}
	if p.pos == 0 {
		if whole, err := p.header(buf); !whole || err != nil {
			return 0, err
		}
	}
	for p.left > 0 {
		if whole, err := p.argument(buf); !whole || err != nil {
			return 0, err
		}
	}
	p.args = p.args[:0]
	for _, s := range p.spans {
		p.args = append(p.args, buf[s.start:s.end:s.end])
	}
	n := p.pos
	p.spans, p.pos = p.spans[:0], 0
	return n, nil
}

// header reads "*<n>\r\n".
func (p *parser) header(buf []byte) (whole bool, err error) {
	n, size, err := number(buf, "too big mbulk count string", "invalid multibulk length")
	if size == 0 || err != nil {
		return false, err
	}
	switch {
	case p.early && n > maxEarlyArgs:
		return false, overLimit("args", "unauthenticated multibulk length")
	case n > maxArgs:
		return false, overLimit("args", "invalid multibulk length (the limit is %d arguments)", maxArgs)
	}
	p.pos, p.left, p.bulk = size, max(n, 0), -1
	return true, nil
}

// argument reads "$<n>\r\n<n bytes>\r\n".
func (p *parser) argument(buf []byte) (whole bool, err error) {
	if p.bulk < 0 {
		if whole, err := p.length(buf); !whole || err != nil {
			return false, err
		}
	}
	end := p.pos + p.bulk
	if len(buf) < end+2 {
		return false, nil
	}
	if buf[end] != '\r' || buf[end+1] != '\n' {
		return false, violation("expected CRLF after a bulk string")
	}
	p.spans = append(p.spans, span{p.pos, end})
	p.pos, p.bulk = end+2, -1
	p.left--
	return true, nil
}

func (p *parser) length(buf []byte) (whole bool, err error) {
	rest := buf[p.pos:]
	if len(rest) == 0 {
		return false, nil
	}
	if rest[0] != '$' {
		return false, violation(fmt.Sprintf("expected '$', got '%s'", printable(rest[0])))
	}
	n, size, err := number(rest, "too big bulk count string", "invalid bulk length")
	if size == 0 || err != nil {
		return false, err
	}
	switch {
	case n < 0:
		return false, violation("invalid bulk length")
	case p.early && n > maxEarlyBulkBytes:
		return false, overLimit("bulk", "unauthenticated bulk length")
	case n > maxBulkBytes:
		return false, overLimit("bulk", "invalid bulk length (the limit is %d bytes)", maxBulkBytes)
	case p.pos+size+n > maxCommandBytes:
		return false, overLimit("command", "too big command (the limit is %d bytes)", maxCommandBytes)
	}
	p.pos, p.bulk = p.pos+size, n
	return true, nil
}

// number reads a sign byte, a decimal number and CRLF; size 0 means that the
// line is not whole.
func number(buf []byte, tooLong, invalid string) (n, size int, err error) {
	head := buf[:min(len(buf), maxHeaderBytes)]
	end := bytes.IndexByte(head, '\n')
	if end < 0 {
		if len(head) == maxHeaderBytes {
			return 0, 0, overLimit("header", "%s", tooLong)
		}
		return 0, 0, nil
	}
	if head[end-1] != '\r' {
		return 0, 0, violation(invalid)
	}
	n, ok := atoi(head[1 : end-1])
	if !ok {
		return 0, 0, violation(invalid)
	}
	return n, end + 1, nil
}

// atoi reads a decimal number of at most 32 bits without allocating.
func atoi(b []byte) (int, bool) {
	digits := b
	if len(b) > 0 && b[0] == '-' {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > 10 {
		return 0, false
	}
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int(d-'0')
	}
	if n > math.MaxInt32 {
		return 0, false
	}
	if len(digits) < len(b) {
		n = -n
	}
	return n, true
}

// inline reads a line of words, as a person types them.
func (p *parser) inline(buf []byte) (int, error) {
	end := bytes.IndexByte(buf[p.pos:min(len(buf), maxInlineBytes+1)], '\n')
	if end < 0 {
		p.pos = min(len(buf), maxInlineBytes+1)
		if len(buf) > maxInlineBytes {
			return 0, overLimit("inline", "too big inline request")
		}
		return 0, nil
	}
	end += p.pos
	p.pos = 0
	args, err := split(bytes.TrimSuffix(buf[:end], []byte("\r")))
	switch {
	case err != nil:
		return 0, violation("unbalanced quotes in request")
	case len(args) > maxArgs || p.early && len(args) > maxEarlyArgs:
		return 0, overLimit("args", "too many arguments in inline request")
	case len(args) > 0 && browser(args[0]):
		return 0, overLimit("cross-protocol", "this is a Redis port, and this is HTTP")
	}
	p.args = append(p.args[:0], args...)
	return end + 1, nil
}

// browser reports whether an inline command's first word is one that HTTP begins a
// line with. A page in a browser can send what it likes to a port on loopback; it
// cannot keep these words out of the head (Redis closes on the same two).
func browser(word []byte) bool {
	return bytes.EqualFold(word, []byte("POST")) || bytes.EqualFold(word, []byte("Host:"))
}

var errQuotes = errors.New("unbalanced quotes")

// split cuts a line into words as redis-cli's own reader does: "..." knows
// \xHH, \n, \r, \t, \b, \a; '...' knows \' alone. The words are fresh memory,
// for the line may hold more commands that are read while this one is in flight.
func split(line []byte) ([][]byte, error) {
	var words [][]byte
	for {
		for len(line) > 0 && space(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			return words, nil
		}
		word, rest, err := takeWord(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), rest
	}
}

func takeWord(line []byte) (word, rest []byte, err error) {
	word = []byte{}
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '"' || line[i] == '\'':
			quoted, rest, err := takeQuoted(line[i+1:], line[i])
			if err != nil {
				return nil, nil, err
			}
			return append(word, quoted...), rest, nil
		case space(line[i]):
			return word, line[i:], nil
		}
		word = append(word, line[i])
	}
	return word, nil, nil
}

// takeQuoted reads up to the closing quote, which must end the word.
func takeQuoted(line []byte, quote byte) (word, rest []byte, err error) {
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == quote:
			rest := line[i+1:]
			if len(rest) > 0 && !space(rest[0]) {
				return nil, nil, errQuotes
			}
			return word, rest, nil
		case line[i] == '\\' && quote == '"' && i+3 < len(line) && line[i+1] == 'x' && hexadecimal(line[i+2]) && hexadecimal(line[i+3]):
			word = append(word, nibble(line[i+2])<<4|nibble(line[i+3]))
			i += 3
		case line[i] == '\\' && i+1 < len(line) && quote == '"':
			i++
			word = append(word, escaped(line[i]))
		case line[i] == '\\' && i+1 < len(line) && line[i+1] == '\'':
			i++
			word = append(word, '\'')
		default:
			word = append(word, line[i])
		}
	}
	return nil, nil, errQuotes
}

func escaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

func hexadecimal(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// printable keeps control bytes out of an error's line.
func printable(c byte) string {
	if c < ' ' || c > '~' {
		return fmt.Sprintf("\\x%02x", c)
	}
	return string(rune(c))
}
