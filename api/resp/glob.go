package resp

// glob matches a key against a pattern of Redis' kind: * ? [a-z] [^a] and \ to
// take the next character as it is. It goes back to the last star alone, so its
// time is at most the product of both lengths.
func glob(pattern, key []byte) bool {
	p, k := 0, 0
	star, mark := -1, 0 // the last star, and how far into key it has eaten
	for k < len(key) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, k
			p++
			continue
		}
		if n, ok := matchOne(pattern[p:], key[k]); ok {
			p, k = p+n, k+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, k = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one character and returns the length of what it matched in
// the pattern.
func matchOne(pattern []byte, ch byte) (int, bool) {
	if len(pattern) == 0 {
		return 0, false
	}
	switch {
	case pattern[0] == '?':
		return 1, true
	case pattern[0] == '[':
		return matchSet(pattern, ch)
	case pattern[0] == '\\' && len(pattern) > 1:
		return 2, pattern[1] == ch
	}
	return 1, pattern[0] == ch
}

// matchSet matches "[...]"; a set that is not closed reaches to the end.
func matchSet(pattern []byte, ch byte) (int, bool) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	in := false
	for i < len(pattern) && pattern[i] != ']' {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			in = in || pattern[i+1] == ch
			i += 2
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := pattern[i], pattern[i+2]
			in = in || ch >= min(low, high) && ch <= max(low, high)
			i += 3
		default:
			in = in || pattern[i] == ch
			i++
		}
	}
	if i < len(pattern) {
		i++
	}
	return i, in != not
}

// literalPrefix returns what every key that matches begins with.
func literalPrefix(pattern []byte) []byte {
	var out []byte
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return out
		case '\\':
			if i+1 == len(pattern) {
				return out
			}
			i++
		}
		out = append(out, pattern[i])
	}
	return out
}
