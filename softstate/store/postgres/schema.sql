-- The layout of a softstate store in PostgreSQL: its tables. Run once, in a schema of its own that search_path names
-- alone; added.sql, cbor.sql and functions.sql are run behind it.
--
-- A topic's row has its version as the primary key, so the change feed and everything "since" are range scans; names
-- are compared by their bytes, so a prefix is one too. Every transaction that changes anything but the inbox locks the
-- one row of meta first and keeps it until it commits: that is what makes revisions follow the order of commits.
--
-- Each row has a checksum (functions.sql), so that one which was damaged or edited by hand is never served.

CREATE TABLE topic (
    version bigint PRIMARY KEY,
    topic text COLLATE "C" NOT NULL UNIQUE,
    value bytea,
    checksum bytea NOT NULL,
    entry bigint
);
CREATE INDEX topic_tombstone ON topic (version) WHERE value IS NULL;
CREATE TABLE lineage (start bigint PRIMARY KEY, nonce text NOT NULL, checksum bytea NOT NULL);
CREATE TABLE idempotency (
    topic text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    version bigint NOT NULL,
    digest bytea NOT NULL,
    checksum bytea NOT NULL,
    PRIMARY KEY (topic, key)
);
CREATE INDEX idempotency_version ON idempotency (version);
CREATE TABLE meta (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    layout integer NOT NULL,
    epoch text NOT NULL,
    revision bigint NOT NULL,
    floor bigint NOT NULL,
    keys bigint NOT NULL,
    publishers bigint NOT NULL,
    incarnation text NOT NULL,
    written xid NOT NULL,
    checksum bytea NOT NULL
) WITH (fillfactor = 10);
