package node

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrConfig is wrapped by every error about a setting.
var ErrConfig = errors.New("bad configuration")

// Setting is one word of the configuration: a field of Config and its three
// spellings.
type Setting struct {
	// Key is its name in the YAML file, such as "cluster.join".
	Key string
	// Form is what a value looks like, such as "HOST:PORT".
	Form string
	// Usage says in a line what it does.
	Usage string
	// Reloadable says that a running node takes a new value.
	Reloadable bool

	get func(*Config) string
	set func(*Config, string) error
}

// Flag is the setting's flag: --cluster-join.
func (s Setting) Flag() string { return "--" + s.FlagName() }

// FlagName is the flag without its dashes: cluster-join.
func (s Setting) FlagName() string { return strings.ReplaceAll(s.Key, ".", "-") }

// Env is the setting's environment variable: EDGED_CLUSTER_JOIN.
func (s Setting) Env() string {
	return "EDGED_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Key))
}

// YAML is the setting as one line of a YAML file, with its form as the value.
func (s Setting) YAML() string {
	group, word, ok := strings.Cut(s.Key, ".")
	if !ok {
		return s.Key + ": " + s.Form
	}
	return fmt.Sprintf("%s: {%s: %s}", group, word, s.Form)
}

// Get returns the setting's value in c as text that Set takes back.
func (s Setting) Get(c *Config) string { return s.get(c) }

// Set reads a value into c. It checks the form alone: Validate checks what the
// values mean together.
func (s Setting) Set(c *Config, value string) error {
	if err := s.set(c, value); err != nil {
		return Invalid(s.Key, value, err.Error())
	}
	return nil
}

// Settings returns all settings, in the order in which they are shown.
func Settings() []Setting {
	return slices.Concat(nodeSettings(), clusterSettings(), storeSettings())
}

func nodeSettings() []Setting {
	return []Setting{
		text("data-dir", "DIR", "where the node keeps its data", func(c *Config) *string { return &c.DataDir }),
		text("node.name", "NAME", "the node's name in the cluster (default: the certificate's)", func(c *Config) *string { return &c.NodeName }),
		text("node.listen", "HOST:PORT", "UDP address for other nodes", func(c *Config) *string { return &c.NodeListen }),
		text("node.advertise", "HOST:PORT", "address that other nodes are told (default: the one listened on)", func(c *Config) *string { return &c.NodeAdvertise }),
		text("node.zone", "ZONE", "failure domain; copies spread over zones", func(c *Config) *string { return &c.NodeZone }),
		text("resp.listen", "HOST:PORT", "TCP address for Redis clients", func(c *Config) *string { return &c.RESPListen }),
		text("resp.password-file", "FILE", "file with the password that Redis clients send", func(c *Config) *string { return &c.RESPPasswordFile }),
		text("http.listen", "HOST:PORT", "address for HTTP clients", func(c *Config) *string { return &c.HTTPListen }),
		text("admin.listen", "HOST:PORT", "TCP address of the admin API", func(c *Config) *string { return &c.AdminListen }),
		text("admin.token-file", "FILE", "file with the token that the admin API asks for", func(c *Config) *string { return &c.AdminTokenFile }),
		text("tls.dir", "DIR", "directory with ca.crt, node.crt, node.key and cluster.key", func(c *Config) *string { return &c.TLSDir }),
	}
}

func clusterSettings() []Setting {
	return []Setting{
		value(Setting{Key: "cluster.join", Form: "HOST:PORT,...", Usage: "nodes to join, any of which will do"},
			joinList, splitList, func(c *Config) *[]string { return &c.ClusterJoin }),
		value(Setting{Key: "cluster.found", Form: "true|false", Usage: "found a new cluster, once"},
			strconv.FormatBool, parseBool, func(c *Config) *bool { return &c.ClusterFound }),
		number("cluster.partitions", "partitions of a cluster that is founded, a power of two", func(c *Config) *int { return &c.ClusterPartitions }),
		number("cluster.copies", "copies of each partition", func(c *Config) *int { return &c.ClusterCopies }),
		number("cluster.write-quorum", "durable copies that a write waits for", func(c *Config) *int { return &c.WriteQuorum }),
		number("cluster.read-quorum", "copies that a read asks", func(c *Config) *int { return &c.ReadQuorum }),
		text("isolated-writes", "accept|refuse", "what to do with a write that too few owners can take", func(c *Config) *string { return &c.IsolatedWrites }),
	}
}

func storeSettings() []Setting {
	level := text("log.level", "debug|info|warn|error", "least level that is logged", func(c *Config) *string { return &c.LogLevel })
	level.Reloadable = true
	rate := value(Setting{Key: "sync.rate", Form: "SIZE", Usage: "bytes a second that a node streams to others that catch up, such as 20MiB; 0 for no limit"},
		FormatSize, ParseSize, func(c *Config) *int64 { return &c.SyncRateBytes })
	rate.Reloadable = true
	guard := value(Setting{Key: "sync.guard", Form: "FACTOR", Usage: "how many times longer the slowest 1 % of requests may take while nodes catch up, before that is slowed down; 0 for no limit"},
		formatFactor, parseFactor, func(c *Config) *float64 { return &c.SyncGuard })
	guard.Reloadable = true
	lanes := number("sync.lanes", "streams, 1 to 8, over which a node sends to others that catch up; 0 for half of the processors", func(c *Config) *int { return &c.SyncLanes })
	return []Setting{
		value(Setting{Key: "memory", Form: "SIZE", Usage: "bound of the memory tier, such as 256MiB"},
			FormatSize, ParseSize, func(c *Config) *int64 { return &c.MemoryBytes }),
		value(Setting{Key: "huge-pages", Form: "true|false", Usage: "back the first 192 MiB of the heap with huge pages"},
			strconv.FormatBool, parseBool, func(c *Config) *bool { return &c.HugePages }),
		value(Setting{Key: "store.limit", Form: "SIZE", Usage: "bound of keys and values in the store, beyond which the coldest are evicted; 0 for none"},
			FormatSize, ParseSize, func(c *Config) *int64 { return &c.StoreLimitBytes }),
		text("durability", "sync|relaxed", "whether a write is answered when it is on disk", func(c *Config) *string { return &c.Durability }),
		value(Setting{Key: "tombstones.horizon", Form: "DURATION", Usage: "how long a delete waits for owners that are away"},
			time.Duration.String, time.ParseDuration, func(c *Config) *time.Duration { return &c.TombstoneHorizon }),
		value(Setting{Key: "scrub.every", Form: "DURATION", Usage: "how long it takes to check every stored value once, in the background; 0 is never"},
			time.Duration.String, time.ParseDuration, func(c *Config) *time.Duration { return &c.ScrubEvery }),
		rate,
		guard,
		lanes,
		level,
		text("log.format", "text|json", "how log lines look", func(c *Config) *string { return &c.LogFormat }),
	}
}

func text(key, form, usage string, field func(*Config) *string) Setting {
	same := func(v string) string { return v }
	return value(Setting{Key: key, Form: form, Usage: usage}, same, func(v string) (string, error) { return v, nil }, field)
}

func number(key, usage string, field func(*Config) *int) Setting {
	return value(Setting{Key: key, Form: "N", Usage: usage}, strconv.Itoa, parseNumber, field)
}

// value completes the setting of a field, which a value that cannot be parsed
// leaves as it was.
func value[T any](s Setting, format func(T) string, parse func(string) (T, error), field func(*Config) *T) Setting {
	s.get = func(c *Config) string { return format(*field(c)) }
	s.set = func(c *Config, v string) error {
		parsed, err := parse(v)
		if err == nil {
			*field(c) = parsed
		}
		return err
	}
	return s
}

// Invalid returns an error about a setting that shows its three forms. An
// empty value is not shown.
func Invalid(key, value, reason string) error {
	about := key
	if value != "" {
		about = fmt.Sprintf("%s %q", key, value)
	}
	for _, s := range Settings() {
		if s.Key == key {
			return fmt.Errorf("%w: %s: %s\n  as a flag:     %s=%s\n  as a variable: %s=%s\n  in YAML:       %s",
				ErrConfig, about, reason, s.Flag(), s.Form, s.Env(), s.Form, s.YAML())
		}
	}
	return fmt.Errorf("%w: %s: %s", ErrConfig, about, reason)
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func parseNumber(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, errors.New("want a whole number")
	}
	return n, nil
}

func joinList(items []string) string { return strings.Join(items, ",") }

func splitList(v string) ([]string, error) {
	var out []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out, nil
}

func formatFactor(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func parseFactor(v string) (float64, error) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return 0, errors.New("want a factor such as 1.5, or 0")
	}
	return f, nil
}

// sizeUnits are the units of a size, largest first.
func sizeUnits() []struct {
	suffix string
	shift  uint
} {
	return []struct {
		suffix string
		shift  uint
	}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}
}

// ParseSize reads a size in bytes, such as 64MiB, 1GiB, 512KiB or 4096.
func ParseSize(s string) (int64, error) {
	digits, shift := s, uint(0)
	for _, unit := range sizeUnits() {
		if head, ok := strings.CutSuffix(s, unit.suffix); ok {
			digits, shift = head, unit.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("want a size such as 64MiB, 1GiB or 4096")
	}
	if n > (1<<62)>>shift {
		return 0, errors.New("too large a size")
	}
	return n << shift, nil
}

// FormatSize writes a size so that ParseSize reads it back to the byte.
func FormatSize(n int64) string {
	for _, unit := range sizeUnits() {
		if n != 0 && n&(1<<unit.shift-1) == 0 && unit.shift > 0 {
			return strconv.FormatInt(n>>unit.shift, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
