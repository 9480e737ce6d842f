package main

import (
	"runtime"
	"runtime/debug"
)

type versionCommand struct {
	outputFlag
}

// buildInfo says what this binary is.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from files that differ from the revision
	Go       string `json:"go"`
}

func (c versionCommand) Run(a *app) error {
	info := readBuildInfo()
	if a.machine(c.outputFlag) {
		return a.printJSON(info)
	}
	revision := info.Revision
	if info.Modified {
		revision += " (modified)"
	}
	t := newTable(a.stdout)
	t.pair("keyledger", info.Version)
	t.pair("revision", revision)
	t.pair("go", info.Go)
	return t.flush()
}

func readBuildInfo() buildInfo {
	out := buildInfo{Version: "(devel)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return out
	}
	if info.Main.Version != "" {
		out.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			out.Revision = setting.Value
		case "vcs.modified":
			out.Modified = setting.Value == "true"
		}
	}
	return out
}
