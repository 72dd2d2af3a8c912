// Package sim plays a whole cluster on a virtual clock: the real servers with
// their leader's loop, the real agents with theirs, and the real client and
// HTTP between them. Only what a machine consists of is fake: its containers
// (runtime_test.go), its network (network_test.go), and the store, which all
// servers share in memory together with an election (servers_test.go).
//
// Everything runs in a bubble of testing/synctest, so that a minute of the
// cluster takes milliseconds, and a test sees the cluster only where nothing is
// left to do at that moment.
//
// The files in testdata are scenarios, for people to read: what happens, and
// what comes of it; README.md there says which words there are. The random test
// lets users and faults loose on a cluster from a seed, checks at each step what
// must always hold (invariants_test.go), and that the cluster comes to rest once
// the faults have stopped:
//
//	go test ./controlplane/sim -seeds 500 -ops 400
//	go test ./controlplane/sim -run TestRandom -seed 17
package sim
