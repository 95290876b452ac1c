package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"unicode/utf8"
)

// step is what the program tells: which, and what belongs to it.
type step struct {
	Step      string `json:"step"`
	Address   string `json:"address,omitempty"`
	ClusterID uint64 `json:"cluster_id,omitempty"`
	Resource  string `json:"resource,omitempty"`
	// Of an event: create, modify or delete.
	Type  string `json:"type,omitempty"`
	Key   string `json:"key,omitempty"`
	Value string `json:"value,omitempty"`
	// The event was found by listing, not told by a watch.
	Listed bool `json:"listed,omitempty"`
	// The event gives a key the value that it had.
	Unchanged bool   `json:"unchanged,omitempty"`
	Revision  int64  `json:"revision,omitempty"`
	Version   int64  `json:"version,omitempty"`
	Keys      int    `json:"keys,omitempty"`
	Pages     int    `json:"pages,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

var output sync.Mutex

func tell(s step) {
	line, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Fprintf(os.Stdout, "%s\n", line)
}

// violated ends the program: the server broke a promise that Cilium relies on without checking it.
func violated(format string, args ...any) {
	tell(step{Step: "violation", Reason: fmt.Sprintf(format, args...)})
	os.Exit(2)
}

// text is a value as it is told: JSON has no way to say bytes that are no text.
func text(value []byte) string {
	if utf8.Valid(value) {
		return string(value)
	}
	return "hex:" + hex.EncodeToString(value)
}
