package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// buildSuffix is at the end of a file that is not complete.
const buildSuffix = ".build"

// places knows the names of the store's files, which all lie beside its path:
// keys.db gives keys.1.db, keys.2.db and so on, and usage.db.
type places struct{ path string }

func (p places) generation(n uint64) string {
	stem, ext := p.parts()
	return stem + "." + strconv.FormatUint(n, 10) + ext
}

func (p places) usage() string { return filepath.Join(filepath.Dir(p.path), "usage.db") }

func (p places) parts() (stem, ext string) {
	ext = filepath.Ext(p.path)
	return strings.TrimSuffix(p.path, ext), ext
}

// number returns which generation's file it is, 0 for another file.
func (p places) number(path string) uint64 {
	stem, ext := p.parts()
	digits, ok := strings.CutPrefix(path, stem+".")
	digits, ok2 := strings.CutSuffix(digits, ext)
	if !ok || !ok2 || !regexp.MustCompile(`^[1-9][0-9]*$`).MatchString(digits) {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0
	}
	return n
}

// found are the files of a store.
type found struct {
	live     uint64   // the generation that readers see, 0 if there is none
	last     uint64   // the highest number of any
	obsolete []string // of no use to this release
}

// look looks at what is there. What it does not know it does not call obsolete: a
// file that is damaged, or of something else, is an error.
func (p places) look(ctx context.Context, log *slog.Logger) (found, error) {
	var f found
	files, err := os.ReadDir(filepath.Dir(p.path))
	if err != nil {
		return f, err
	}
	var numbers []uint64
	for _, file := range files {
		path := filepath.Join(filepath.Dir(p.path), file.Name())
		if whole, ok := strings.CutSuffix(path, buildSuffix); ok && (whole == p.path || p.number(whole) > 0) {
			f.obsolete = append(f.obsolete, path)
		}
		if n := p.number(path); n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	for _, n := range numbers {
		f.last = max(f.last, n)
		usable, err := inspect(ctx, p.generation(n), log)
		switch {
		case err != nil:
			return f, err
		case usable && f.live == 0:
			f.live = n
		default:
			f.obsolete = append(f.obsolete, p.generation(n))
		}
	}
	// Release 0.2 and older had one file, without a number.
	if _, err := os.Stat(p.path); err == nil {
		if _, err := inspect(ctx, p.path, log); err != nil {
			return f, err
		}
		f.obsolete = append(f.obsolete, p.path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	return f, nil
}

// inspect reports whether the file holds live tables of this schema version. It
// is an error if they are no tables of ours at all.
func inspect(ctx context.Context, path string, log *slog.Logger) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, foreign(path, "it is no regular file")
	}
	if info.Size() == 0 {
		return false, nil
	}
	db, err := openDB(path, "rw", 1, "busy_timeout(1000)")
	if err != nil {
		return false, err
	}
	defer func() { _ = db.Close() }()
	var application, version int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application); err != nil {
		return false, explain(path, "look at the tables", err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, explain(path, "look at the tables", err)
	}
	switch {
	case application != applicationID && application != buildID:
		return false, foreign(path, "another program made it")
	case version != schemaVersion:
		log.InfoContext(ctx, "read store has another schema version and is built anew",
			slog.String("path", path), slog.Int("found", version), slog.Int("want", schemaVersion))
		return false, nil
	default:
		return application == applicationID, nil
	}
}

// openDB opens a pool of connections. mode is rw, or rwc to make the file.
func openDB(path, mode string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": pragmas, "_dqs": {"0"}, "_error_rc": {"1"}, "mode": {mode}}
	db, err := sql.Open("sqlite", fileURL(path, query))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func fileURL(path string, query url.Values) string {
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	return name.String()
}

// sync writes a file or directory to the disk.
func sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove removes files, each with what SQLite keeps beside it. The file itself goes
// last: an old -wal beside a new file would be taken for its own.
func remove(paths ...string) error {
	for _, path := range paths {
		for _, part := range [...]string{path + "-wal", path + "-shm", path + "-journal", path} {
			if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
