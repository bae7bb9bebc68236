package sim_test

import (
	"os"
	"testing"

	"edged.dev/edged/internal/sim"

	"github.com/stretchr/testify/require"
)

// script is one way to a lie, step by step: it ends in a violation with the lie, and in
// none without it. The owners are 0, 1 and 2, in the order of placement, and 3 stands in.
type script struct {
	lie  sim.Lie
	rule string
	run  func(c *sim.Cluster)
}

// founded is how long a new cluster takes until all its copies are LIVE, the first owner
// has the lead, and everybody has told.
const founded = 3050

func scripts() []script {
	return []script{
		{sim.LieCovers, "I18", func(c *sim.Cluster) {
			c.Crash(1)
			c.Write(0, "a")
			c.Pass(500)
			c.Boot(1)
			c.Pass(2000)
		}},
		{sim.LieTrust, "I18", onlyAnEmptyCopyAnswers},
		{sim.LieAnyWhole, "I18", onlyAnEmptyCopyAnswers},
		{sim.LieNotLost, "R8", func(c *sim.Cluster) {
			rolledBack(c, func() {})
		}},
		{sim.LieForgets, "R8", func(c *sim.Cluster) {
			rolledBack(c, func() {
				c.Crash(0)
				c.Boot(0)
				c.Pass(1000)
			})
		}},
		{sim.LieLease, "I18", func(c *sim.Cluster) {
			c.Pause(2)
			c.Write(0, "a")
			c.Pass(3000)
			c.Resume(2)
		}},
		// What 0 had answered before 2 stood still reaches 2 when it goes on.
		{sim.LieEarlyReport, "I18", func(c *sim.Cluster) {
			c.Cut(2, 1)
			c.Cut(2, 3)
			c.Cut(2, 0)
			c.Pass(500)
			c.Mend(2, 0)
			c.Pass(165)
			c.Pause(2)
			c.Pass(20)
			c.Write(0, "a")
			c.Pass(2500)
			c.Deafen(0, 2, 2500)
			c.Resume(2)
			c.Pass(2000)
		}},
		{sim.LieStands, "I18", func(c *sim.Cluster) {
			c.Crash(1)
			c.Crash(2)
			c.Pass(300)
			c.Write(0, "a")
			c.Pass(300)
			for _, i := range []int{0, 3} {
				c.Crash(i)
				c.LoseDisk(i)
			}
			for i := range 4 {
				c.Boot(i)
			}
			c.Pass(3000)
		}},
		{sim.LieStandReads, "I18", func(c *sim.Cluster) {
			c.Write(0, "a")
			c.Pass(500)
			c.Crash(3)
			c.Boot(3)
			c.Pass(500)
			c.Crash(1)
			c.Crash(2)
			c.Pass(300)
			c.Write(0, "a")
			c.Pass(300)
			c.Read(3)
		}},
		{sim.LieLeadAlways, "lead", returnsAmidWrites},
		{sim.LieNobodyAsked, "lead", returnsAmidWrites},
		{sim.LieLeadKept, "lead", func(c *sim.Cluster) {
			c.Cut(0, 1)
			c.Cut(0, 2)
			c.Pass(200)
			c.Write(1, "a")
			c.Pass(300)
			c.Mend(0, 1)
			c.Pass(152 + 25) // and they have told their clocks
			c.Write(0, "a")
			c.Pass(500)
		}},
		{sim.LieAnyAck, "lead", func(c *sim.Cluster) {
			c.Cut(0, 1)
			c.Pass(200)
			c.Write(1, "a")
			c.Pass(200)
			c.Write(0, "a")
			c.Pass(200)
		}},
		{sim.LieNoFavours, "lead", func(c *sim.Cluster) {
			goesOnTooLate(c)
			c.Write(0, "a")
			c.Pass(500)
		}},
		// The first of two acknowledgements says that 2 has acknowledged another's write.
		{sim.LieOldView, "lead", func(c *sim.Cluster) {
			goesOnTooLate(c)
			c.Write(0, "a")
			c.Write(0, "a")
			c.Pass(500)
		}},
		{sim.LieRetry, "retry", func(c *sim.Cluster) {
			c.Write(0, "a")
			c.Pass(100)
			c.Write(0, "a")
			c.Pass(500)
		}},
	}
}

// onlyAnEmptyCopyAnswers has 2 return when of those who acknowledged a write one is down,
// and the other has lost its disk.
func onlyAnEmptyCopyAnswers(c *sim.Cluster) {
	c.Crash(2)
	c.Write(0, "a")
	c.Pass(500)
	c.Crash(0)
	c.Crash(1)
	c.LoseDisk(0)
	c.Boot(0)
	c.Boot(2)
	c.Pass(165) // HELLO is being answered
	c.Deafen(0, 2, 2000)
	c.Pass(1500)
}

// rolledBack restores an owner from before a write that it acknowledged.
func rolledBack(c *sim.Cluster, meanwhile func()) {
	c.BackUp(1)
	c.Write(0, "a")
	c.Pass(2500) // and it is on record
	c.Crash(1)
	meanwhile()
	c.Restore(1)
	c.Boot(1)
	c.Pass(1000)
}

// returnsAmidWrites has the first owner return to one that takes the last write of another
// behind what it told, and before it learns that the first is LIVE.
func returnsAmidWrites(c *sim.Cluster) {
	c.Cut(0, 1)
	c.Crash(0)
	c.Pass(1000)
	c.Boot(0)
	c.Pass(165)
	c.Write(1, "a")
	c.Pass(52) // 0 is LIVE, and has asked for the lead
	c.Write(0, "a")
	c.Pass(500)
}

// goesOnTooLate has 2 go on when what it knew of the others is not believed any more: it
// holds itself to be first until they answer, and acknowledges a write of 1.
func goesOnTooLate(c *sim.Cluster) {
	c.Crash(3) // which would have named 0
	c.Cut(0, 1)
	c.Pass(5050 - founded) // all have just been answered
	c.Pause(2)
	c.Pass(1500)
	c.Write(1, "a")
	c.Pass(50)
	c.Resume(2)
	c.Pass(18)
}

func playScript(s script, lie sim.Lie) *sim.Cluster {
	o := sim.ClusterOptions{Directed: true, Lie: lie}
	if *traced {
		o.Trace = os.Stdout
	}
	c := sim.NewCluster(o)
	c.Pass(founded)
	s.run(c)
	return c
}

// TestScriptsCatchLies walks straight to each lie about liveness; the same steps are
// harmless without it, and all is level behind them.
func TestScriptsCatchLies(t *testing.T) {
	t.Parallel()
	covered := map[sim.Lie]bool{}
	for _, s := range scripts() {
		covered[s.lie] = true
		t.Run(string(s.lie), func(t *testing.T) {
			t.Parallel()
			sound := playScript(s, sim.NoLie)
			require.Empty(t, sound.Violations(), "the steps alone break nothing")
			sound.Rest()
			require.Empty(t, sound.Violations())
			broken := playScript(s, s.lie)
			require.NotEmpty(t, broken.Violations())
			require.Equal(t, s.rule, broken.Violations()[0].Rule, "%v", broken.Violations()[0])
		})
	}
	for _, lie := range sim.Lies() {
		require.True(t, covered[lie], "no script leads to %q", lie)
	}
}
