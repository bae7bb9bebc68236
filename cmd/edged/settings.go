package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"edged.dev/edged/node"
)

const (
	// configFlag and configEnv name the YAML file.
	configFlag = "config"
	configEnv  = "EDGED_CONFIG"
	// adminEnv is the admin URL that the commands ask.
	adminEnv = "EDGED_ADMIN"
	// maxConfigBytes bounds the YAML file, which is a few dozen lines.
	maxConfigBytes = 1 << 20
)

// loaded is a configuration, and where each of its values came from.
type loaded struct {
	cfg    node.Config
	source map[string]string // setting's key: where its value came from
}

// settingFlag is a setting's flag. It takes any text: what it means is the
// setting's to say.
type settingFlag struct{ text, form string }

func (f *settingFlag) String() string     { return f.text }
func (f *settingFlag) Set(v string) error { f.text = v; return nil }
func (f *settingFlag) Type() string       { return f.form }

// addSettings gives a command a flag for each setting and one for the file.
func addSettings(flags *pflag.FlagSet) {
	defaults := node.Default()
	flags.Var(&settingFlag{form: "FILE"}, configFlag, "YAML file with settings")
	for _, s := range node.Settings() {
		flags.Var(&settingFlag{text: s.Get(&defaults), form: s.Form}, s.FlagName(), s.Usage)
		if s.Form == "true|false" {
			flags.Lookup(s.FlagName()).NoOptDefVal = "true"
		}
	}
}

// load reads the settings: a flag wins over a variable, that over the file,
// and that over the default. It does not validate what they mean together.
func load(flags *pflag.FlagSet, sys system) (loaded, error) {
	out := loaded{cfg: node.Default(), source: map[string]string{}}
	k := koanf.New(".")
	file := configFile(flags, sys)
	fromFile, err := readFile(file)
	if err != nil {
		return loaded{}, err
	}
	fromEnv, err := readEnv(sys)
	if err != nil {
		return loaded{}, err
	}
	for _, layer := range []struct {
		values map[string]any
		source func(node.Setting) string
	}{
		{fromFile, func(node.Setting) string { return file }},
		{fromEnv, node.Setting.Env},
		{readFlags(flags), node.Setting.Flag},
	} {
		if err := k.Load(confmap.Provider(layer.values, "."), nil); err != nil {
			return loaded{}, fmt.Errorf("%w: %w", node.ErrConfig, err)
		}
		for _, s := range node.Settings() {
			if _, ok := layer.values[s.Key]; ok {
				out.source[s.Key] = layer.source(s)
			}
		}
	}
	return out, out.fill(k)
}

// fill sets every setting that a layer had, and names the source of each.
func (l *loaded) fill(k *koanf.Koanf) error {
	var errs []error
	for _, s := range node.Settings() {
		if _, ok := l.source[s.Key]; !ok {
			l.source[s.Key] = "default"
			continue
		}
		errs = append(errs, s.Set(&l.cfg, textOf(k.Get(s.Key))))
	}
	return errors.Join(errs...)
}

func configFile(flags *pflag.FlagSet, sys system) string {
	if f := flags.Lookup(configFlag); f != nil && f.Changed {
		return f.Value.String()
	}
	return sys.env(configEnv)
}

// readFile returns the settings of a YAML file by their keys, or none where
// there is no file to read. A group's words may stand below it or be written
// with its name and a dot.
func readFile(path string) (map[string]any, error) {
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: read settings: %w", node.ErrConfig, err)
	}
	if info.Size() > maxConfigBytes {
		return nil, fmt.Errorf("%w: read settings: %s has %d bytes, want at most %d", node.ErrConfig, path, info.Size(), maxConfigBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: read settings: %w", node.ErrConfig, err)
	}
	tree, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		return nil, fmt.Errorf("%w: read settings: %s: %w", node.ErrConfig, path, err)
	}
	k := koanf.New(".")
	if err := k.Load(confmap.Provider(tree, ""), nil); err != nil {
		return nil, fmt.Errorf("%w: read settings: %s: %w", node.ErrConfig, path, err)
	}
	values, keys := k.All(), settingKeys()
	var errs []error
	for key, value := range values {
		switch {
		case !slices.Contains(keys, key):
			errs = append(errs, fmt.Errorf("%w: %s: unknown setting %q; did you mean %q?", node.ErrConfig, path, key, nearest(key, keys)))
		case value == nil:
			errs = append(errs, node.Invalid(key, "", "has no value in "+path))
		}
	}
	return values, joinSorted(errs)
}

// readEnv returns the settings in the environment. Any other variable that
// begins with EDGED_ is refused: it is a slip of the pen.
func readEnv(sys system) (map[string]any, error) {
	byEnv, names := map[string]string{}, []string{configEnv, adminEnv}
	for _, s := range node.Settings() {
		byEnv[s.Env()] = s.Key
		names = append(names, s.Env())
	}
	values := map[string]any{}
	var errs []error
	for _, pair := range sys.environ {
		name, value, _ := strings.Cut(pair, "=")
		if key, ok := byEnv[name]; ok {
			values[key] = value
		} else if strings.HasPrefix(name, "EDGED_") && !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("%w: unknown variable %s; did you mean %s?", node.ErrConfig, name, nearest(name, names)))
		}
	}
	return values, joinSorted(errs)
}

// readFlags returns the settings that were given as flags.
func readFlags(flags *pflag.FlagSet) map[string]any {
	values := map[string]any{}
	for _, s := range node.Settings() {
		if f := flags.Lookup(s.FlagName()); f != nil && f.Changed {
			values[s.Key] = f.Value.String()
		}
	}
	return values
}

func settingKeys() []string {
	var keys []string
	for _, s := range node.Settings() {
		keys = append(keys, s.Key)
	}
	return keys
}

// textOf writes a YAML value as a setting's text: a list with commas.
func textOf(value any) string {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	items := make([]string, len(list))
	for i, item := range list {
		items[i] = fmt.Sprint(item)
	}
	return strings.Join(items, ",")
}

// joinSorted joins errors so that the same mistakes read the same each time.
func joinSorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
