package core_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/internal/kv"
	"edged.dev/edged/replica/core"
)

// The answer to a session's HELLO may be lost, and its end then never told. What it
// dropped is alarmed all the same, once.
func TestWhatASessionBuriedIsAlarmedWithoutItsEnd(t *testing.T) {
	alarms := func(s *scenario) (n int) {
		for _, line := range s.effects {
			if strings.Contains(line, "ALARM") && strings.Contains(line, "3 versions in 1 partitions") {
				n++
			}
		}
		return n
	}
	for name, over := range map[string]func(*scenario){
		"disconnected": func(s *scenario) { s.step(core.PeerDown{Name: "n2", Boot: 2}) },
		"asked again":  func(s *scenario) { s.do([]string{"hello-fails", "n2"}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := again(t)
			s.system = true
			s.step(core.PartEnded{Name: "n2", Session: 1, Partition: kv.Partition(0), Below: true, Buried: 3})
			require.Zero(t, alarms(s), "the session may bring more")
			over(s)
			s.pass(2*second, nil)
			require.Equal(t, 1, alarms(s), s.effects)
		})
	}
}
