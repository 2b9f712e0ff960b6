-- Sealed parts of the trail that are kept, each followed by a signed checkpoint. The part that grows has no row.
CREATE TABLE audit_segments (
    first       INTEGER PRIMARY KEY,   -- number of its first event
    last        INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,      -- what its events take in the file, about
    first_at    INTEGER NOT NULL,      -- Unix nanoseconds of its first event
    last_at     INTEGER NOT NULL,      -- Unix nanoseconds of its latest event
    first_hash  TEXT NOT NULL,
    head        TEXT NOT NULL,         -- hash of its last event
    exported_at INTEGER,               -- Unix milliseconds; NULL = not exported
    file        TEXT,                  -- name in the export folder
    sha256      TEXT                   -- lower-hex SHA-256 of the file
) STRICT;
CREATE INDEX audit_segments_unexported ON audit_segments (first) WHERE exported_at IS NULL;
