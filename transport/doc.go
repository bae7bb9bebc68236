// Package transport is mutually authenticated QUIC between nodes: calls, streams
// with flow control, and the gossip transport, all on one UDP port.
//
// A pair of nodes has one connection, whoever dialed it. On it run two long
// streams each way, control and live, that carry frames in order; a stream for
// each call; one-way streams called lanes; and gossip, as datagrams and streams
// of its own. Frames, calls and lanes are opaque bytes here: what they mean is
// the Handler's and the Server's affair.
//
// A node is who its certificate says. The certificate's URI SAN is
//
//	edged://<cluster id>/<node name>
//
// and CONN, the first frame, must carry the same two. New binds the socket and
// starts nothing; Run owns every goroutine and returns after the last.
package transport
