-- Public halves of the signing keys, of all times: tokens name the key by its kid, and so do the statements of the trail.
CREATE TABLE signing_keys (
    sequence INTEGER PRIMARY KEY,
    kid TEXT NOT NULL UNIQUE,
    x TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    retires_at INTEGER,
    retired_at INTEGER,
    leaked INTEGER NOT NULL DEFAULT 0
);
