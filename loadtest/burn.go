package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	burnName = "burn"
	// maxBurn bounds what a stand-in uses and how long it means to last: a return that
	// takes longer is compared with nothing, and a stand-in whose run was killed ends.
	maxBurn = 10 * time.Minute
	// burnGrain is how far a stand-in runs ahead of its pace, and how long it then rests.
	burnGrain = time.Millisecond
)

// burnBudget is the processor time that a stand-in uses, at an even pace over a while.
type burnBudget struct{ processor, long time.Duration }

func (b burnBudget) validate() error {
	if b.processor <= 0 || b.processor > maxBurn {
		return fmt.Errorf("%w: a stand-in for %v of processor time: want more than 0 and up to %v", errUsage, b.processor, maxBurn)
	}
	if b.long <= 0 || b.long > maxBurn {
		return fmt.Errorf("%w: a stand-in over %v: want more than 0 and up to %v", errUsage, b.long, maxBurn)
	}
	return nil
}

// due is what may have been used after so long.
func (b burnBudget) due(elapsed time.Duration) time.Duration {
	if elapsed >= b.long {
		return b.processor
	}
	return time.Duration(float64(b.processor) * float64(elapsed) / float64(b.long))
}

// spent reports whether the stand-in's time is over: it lasts longer where it did not
// get the processor, as a return does.
func (b burnBudget) spent(elapsed, used time.Duration) bool {
	return elapsed >= b.long && used >= b.processor
}

// burnCommand is what this program starts itself as, in the place of a node that
// returns; nobody else has a use for it.
func burnCommand() *cobra.Command {
	var b burnBudget
	cmd := &cobra.Command{
		Use: burnName, Short: "Use the processor and nothing else", Hidden: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.validate(); err != nil {
				return err
			}
			return b.burn(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&b.processor, "processor", 0, "processor time to use")
	cmd.Flags().DurationVar(&b.long, "for", 0, "over so long")
	return cmd
}

// burn uses the processor until the budget is spent, from the start of the process
// on, on as many threads as Go runs of a node's at once: its others wait.
func (b burnBudget) burn(ctx context.Context) error {
	begun := time.Now()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				used, elapsed := ownProcessor(), time.Since(begun)
				if b.spent(elapsed, used) {
					return
				}
				if used >= b.due(elapsed) {
					time.Sleep(burnGrain)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// ownProcessor is what this process has used so far, in user and in system mode.
func ownProcessor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("bug: a process may not ask for its own processor time: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// burning is a stand-in that runs.
type burning struct{ cmd *exec.Cmd }

// startBurning starts a stand-in as a process of its own, which ctx ends.
func startBurning(ctx context.Context, b burnBudget) (*burning, error) {
	if err := b.validate(); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, burnName, "--processor", b.processor.String(), "--for", b.long.String())
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a stand-in: %w", err)
	}
	return &burning{cmd}, nil
}

// wait waits for its end and returns what it has used.
func (s *burning) wait() (time.Duration, error) {
	if err := s.cmd.Wait(); err != nil {
		return 0, fmt.Errorf("run a stand-in: %w", err)
	}
	return s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime(), nil
}
