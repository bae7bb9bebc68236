package transport

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// slowWriter lets the test push frames while a write is under way.
type slowWriter struct {
	during func()
	got    bytes.Buffer
}

func (w *slowWriter) Write(b []byte) (int, error) {
	before := bytes.Clone(b)
	w.during()
	w.got.Write(b)
	if !bytes.Equal(before, b) {
		return 0, ErrClosed
	}
	return len(b), nil
}

// A buffer that is being written must never be the one that frames are pushed
// into: the stream's framing broke once a drain had found the queue empty.
func TestFramesPushedDuringAWriteLeaveItAlone(t *testing.T) {
	t.Parallel()
	q := newFrameQueue(1<<20, 1<<16)
	ended := make(chan struct{})
	var mu sync.Mutex // of pushed
	pushed, writes := 0, 0
	push := func() {
		mu.Lock()
		defer mu.Unlock()
		frame := binary.LittleEndian.AppendUint64(nil, uint64(pushed))
		require.NoError(t, q.push(frame))
		pushed++
	}
	more := make(chan struct{}, 1)
	w := &slowWriter{}
	w.during = func() {
		if writes++; writes%3 != 0 { // every third write leaves the queue empty
			push()
			push()
			return
		}
		more <- struct{}{}
	}
	done := make(chan error, 1)
	go func() { done <- q.drain(ended, w) }()
	push()
	for range 50 {
		<-more
		push()
	}
	<-more
	close(ended)
	require.NoError(t, <-done)
	r := bytes.NewReader(w.got.Bytes())
	for i := range pushed {
		frame, err := readFrame(r, nil, 1<<16)
		require.NoError(t, err)
		require.Equal(t, uint64(i), binary.LittleEndian.Uint64(frame))
	}
	require.Zero(t, r.Len())
}
