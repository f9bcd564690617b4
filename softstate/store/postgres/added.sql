-- The tables that layout 2 has added, and what is said of all: for a new store and a migrated one.

CREATE TABLE publisher (
    publisher bytea PRIMARY KEY,
    settled bigint NOT NULL,
    touched bigint NOT NULL,
    uses bytea NOT NULL,
    checksum bytea NOT NULL
);
CREATE INDEX publisher_touched ON publisher (touched);
CREATE TABLE inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text COLLATE "C" NOT NULL,
    value bytea,
    checksum bytea NOT NULL
);
CREATE TABLE refused (
    id bigint PRIMARY KEY,
    topic text NOT NULL,
    value bytea,
    because text NOT NULL,
    refused timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE topic IS 'softstate: the newest version and value (CBOR, NULL: deleted) of every topic';
COMMENT ON COLUMN topic.entry IS 'the newest entry of the inbox that it was published by, if any';
COMMENT ON TABLE lineage IS 'softstate: where a new history may have begun';
COMMENT ON TABLE idempotency IS 'softstate: which requests with a key were applied already';
COMMENT ON TABLE publisher IS 'softstate: which numbered requests of each publisher were applied already';
COMMENT ON TABLE inbox IS 'softstate: what other programs have published, until the next commit of a node moves it';
COMMENT ON TABLE refused IS 'softstate: entries of the inbox that could not be published, the newest ones';
COMMENT ON TABLE meta IS 'softstate: one row, which every commit locks; do not change it by hand';
COMMENT ON COLUMN meta.written IS 'xmin of this very row, unless another program has put it here: a restore';
