-- The end of a migration to layout 2: each row gets its checksum. Values lose their mark (CBOR's tag 55799), which told
-- them from text that another program had put there.

UPDATE topic SET
    value = substring(value FROM 4),
    checksum = checksum(topic, version, substring(value FROM 4))
    WHERE checksum IS NULL;
UPDATE lineage SET checksum = lineage_checksum(start, nonce);
UPDATE idempotency SET checksum = key_checksum(topic, key, version, digest);
UPDATE meta SET checksum = meta_checksum(layout, epoch, revision, floor, keys, publishers, incarnation);
ALTER TABLE topic ALTER COLUMN checksum SET NOT NULL;
ALTER TABLE lineage ALTER COLUMN checksum SET NOT NULL;
ALTER TABLE idempotency ALTER COLUMN checksum SET NOT NULL;
ALTER TABLE meta ALTER COLUMN checksum SET NOT NULL;
