-- From layout 1 (November 2026) to 2, within the transaction of softstate.store.postgres.migration, which drops the old
-- functions first and runs cbor.sql, functions.sql and checksums.sql behind this.
--
-- A node of layout 1 that was forgotten finds no column "head" in meta, which it reads or writes in each transaction.

ALTER TABLE meta RENAME COLUMN head TO revision;
ALTER TABLE meta ADD COLUMN publishers bigint NOT NULL DEFAULT 0, ADD COLUMN checksum bytea;
ALTER TABLE meta ALTER COLUMN publishers DROP DEFAULT;
ALTER TABLE topic ADD COLUMN checksum bytea, ADD COLUMN entry bigint;
ALTER TABLE lineage ADD COLUMN checksum bytea;
ALTER TABLE idempotency ADD COLUMN checksum bytea, DROP CONSTRAINT idempotency_pkey,
    DROP CONSTRAINT idempotency_topic_key_key, ADD PRIMARY KEY (topic, key);
CREATE INDEX idempotency_version ON idempotency (version);
