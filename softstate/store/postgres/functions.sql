-- The functions of a softstate store in PostgreSQL: checksums, the inbox, and what other programs call.

-- Differs once history may have been rewound: another cluster, a failover, a restart, another database (a copy, made
-- with TEMPLATE and renamed into place, has the numbers of its tables), a table that was made again.
CREATE FUNCTION incarnation() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(
        ' ',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
        extract(epoch FROM pg_postmaster_start_time()),
        (SELECT pg_database.oid FROM pg_database WHERE datname = current_database()),
        'meta'::regclass::oid,
        pg_relation_filenode('meta')
    )
$$;

-- Checksums: softstate.store.rules.checksum has the same in Python.
CREATE FUNCTION checksum(topic text, version bigint, value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(sha256(
        int4send(octet_length(topic)) || convert_to(topic, 'UTF8') || int8send(version)
            || CASE WHEN value IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || value END
    ) FOR 8)
$$;

-- One part of any other row: its length, and its bytes.
CREATE FUNCTION part(data bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT int4send(octet_length(data)) || data
$$;

CREATE FUNCTION lineage_checksum(start bigint, nonce text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(sha256(part(int8send(start)) || part(convert_to(nonce, 'UTF8'))) FOR 8)
$$;

CREATE FUNCTION key_checksum(topic text, key bytea, version bigint, digest bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(
        sha256(part(convert_to(topic, 'UTF8')) || part(key) || part(int8send(version)) || part(digest)) FOR 8
    )
$$;

CREATE FUNCTION publisher_checksum(publisher bytea, settled bigint, touched bigint, uses bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(
        sha256(part(publisher) || part(int8send(settled)) || part(int8send(touched)) || part(uses)) FOR 8
    )
$$;

CREATE FUNCTION meta_checksum(
    layout integer, epoch text, revision bigint, floor bigint, keys bigint, publishers bigint, incarnation text
) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(sha256(
        part(int8send(layout)) || part(convert_to(epoch, 'UTF8')) || part(int8send(revision)) || part(int8send(floor))
            || part(int8send(keys)) || part(int8send(publishers)) || part(convert_to(incarnation, 'UTF8'))
    ) FOR 8)
$$;

-- Say why a topic's name cannot be published to; NULL if it can.
CREATE FUNCTION topic_fault(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 255 THEN
            format('topic must be 1 to 255 bytes of UTF-8, this one has %s', coalesce(octet_length(name), 0))
        WHEN name ~ '[\u0001-\u001f\u007f-\u009f]' THEN 'topic must not hold control characters'
        WHEN '/' || name || '/' ~ '/\.{0,2}/' THEN
            format('topic must not begin or end with ''/'', nor hold an empty, ''.'' or ''..'' segment: %s', name)
    END
$$;

CREATE FUNCTION check_topic(name text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF topic_fault(name) IS NOT NULL THEN
        RAISE EXCEPTION 'softstate: %', topic_fault(name) USING ERRCODE = 'SS400';
    END IF;
END
$$;

-- Write a new state of the store down, the last change of a commit or of a part of one.
CREATE FUNCTION advance(head bigint, lowest bigint, keyed bigint, known bigint, present text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    intact boolean;
BEGIN
    UPDATE meta SET
        revision = head, floor = lowest, keys = keyed, publishers = known, incarnation = present,
        written = pg_current_xact_id()::xid,
        checksum = meta_checksum(layout, epoch, head, lowest, keyed, known, present)
        RETURNING xmin = written INTO intact;
    IF NOT intact THEN
        -- Within a savepoint rows bear the number of the subtransaction, which only a row that was written tells.
        UPDATE meta SET written = xmin;
    END IF;
    PERFORM pg_notify(current_schema()::text, head::text);
END
$$;

CREATE FUNCTION put_lineage(revision bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO lineage SELECT revision, nonce, lineage_checksum(revision, nonce)
        FROM encode(substring(uuid_send(gen_random_uuid()) FROM 1 FOR 8), 'hex') AS drawn (nonce)
$$;

CREATE FUNCTION put_topic(name text, revision bigint, stored bytea, moved bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO topic (version, topic, value, checksum, entry)
        VALUES (revision, name, stored, checksum(name, revision, stored), moved)
        ON CONFLICT (topic) DO UPDATE SET version = excluded.version, value = excluded.value,
            checksum = excluded.checksum, entry = coalesce(excluded.entry, topic.entry)
$$;

-- Raise the number of the next entry above all that are known here: the tables may have come without their sequence,
-- which logical replication does not copy, nor a dump of their rows alone. An entry with a lower number than its topic
-- has would count as overtaken, and be passed over. What was sent here since the rows came is newer than they are.
CREATE FUNCTION raise_numbers() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- More than are drawn by others meanwhile.
    margin CONSTANT bigint := 1000000;
    -- A number above is damage, and would use up the rest.
    number_max CONSTANT bigint := 4611686018427387904;
    numbers regclass := pg_get_serial_sequence(format('%I.inbox', current_schema()), 'id')::regclass;
    drawn bigint := coalesce(pg_sequence_last_value(numbers), 0);
    highest bigint;
BEGIN
    SELECT greatest(
        (SELECT max(t.entry) FROM topic AS t WHERE t.entry <= number_max),
        (SELECT max(i.id) FROM inbox AS i WHERE i.id <= number_max),
        (SELECT max(r.id) FROM refused AS r WHERE r.id <= number_max)
    ) INTO highest;
    IF highest > drawn THEN
        PERFORM setval(numbers, highest + margin);
        UPDATE topic SET entry = NULL
            FROM inbox AS i WHERE i.topic = topic.topic AND i.id <= drawn AND topic.entry > drawn;
    END IF;
END
$$;

-- Begin to write: lock the row of meta until the end of this transaction, and move what the inbox holds then into the
-- store, inbox_max entries at most, and no more behind the one that brings them to inbox_bytes_max: a node has a few
-- seconds for it, and a portion that took longer would be taken back, and begun again by each commit. With more entries
-- left (more) a node commits, and begins again: so each publish that is asked for after an application's COMMIT has a
-- higher revision than what that COMMIT brought.
--
-- Entries of one topic are applied in the order in which they were put there, whichever was committed first: one that
-- a newer one has overtaken is passed over, and takes no revision. The exception: the newest entry is known by the
-- topic's row alone. A delete that finds nothing to delete leaves none, or the one that was there, and compaction takes
-- the row of a tombstone; an older publish that is committed after that brings the topic to life.
--
-- begins: the next change has to begin a lineage.
-- sound: the row of meta is as it was written; if not, or if the layout is another one, nothing is moved and nothing
-- may be written. All NULL: no store.
CREATE FUNCTION take_counter(
    fresh boolean,
    OUT layout integer, OUT epoch text, OUT revision bigint, OUT floor bigint, OUT keys bigint, OUT publishers bigint,
    OUT present text, OUT sound boolean, OUT begins boolean, OUT moved integer, OUT more boolean
) LANGUAGE plpgsql AS $$
DECLARE
    inbox_max CONSTANT integer := 1000;
    inbox_bytes_max CONSTANT integer := 4 * 1024 * 1024;
    refused_max CONSTANT integer := 1000;
    store record;
    entries bigint[];
    waiting integer;
    changed integer;
BEGIN
    SELECT meta.*, meta.xmin = meta.written AS intact INTO store FROM meta FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    layout := store.layout;
    epoch := store.epoch;
    revision := store.revision;
    floor := store.floor;
    keys := store.keys;
    publishers := store.publishers;
    present := incarnation();
    begins := fresh OR NOT store.intact OR store.incarnation <> present;
    sound := store.checksum = meta_checksum(layout, epoch, revision, floor, keys, publishers, store.incarnation);
    moved := 0;
    more := false;
    IF sound IS NOT TRUE OR layout <> 2 THEN
        RETURN;
    END IF;
    IF NOT store.intact THEN
        PERFORM raise_numbers();
    END IF;
    -- Not EXISTS: without ORDER BY the planner may take all rows to be likely enough, and walk through the table.
    PERFORM FROM topic WHERE topic.version > store.revision ORDER BY topic.version DESC LIMIT 1;
    IF FOUND THEN
        -- Damaged rows: moved out of the way of the next ones.
        UPDATE topic SET version = lowest.version - stray.place
            FROM (SELECT t.ctid AS row, row_number() OVER () AS place FROM topic AS t WHERE t.version > store.revision)
                AS stray, (SELECT least(min(t.version), 0) AS version FROM topic AS t) AS lowest
            WHERE topic.ctid = stray.row;
    END IF;
    -- Others may commit between two statements: all of them are about these entries.
    -- The length of a value is known without reading it from where long ones are.
    SELECT coalesce(array_agg(i.id) FILTER (WHERE i.before < inbox_bytes_max), '{}'), count(*) INTO entries, waiting
        FROM (
            SELECT oldest.id, sum(oldest.bytes) OVER (ORDER BY oldest.id) - oldest.bytes AS before FROM (
                SELECT inbox.id, octet_length(inbox.topic) + coalesce(octet_length(inbox.value), 0) AS bytes
                    FROM inbox ORDER BY inbox.id LIMIT inbox_max
            ) AS oldest
        ) AS i;
    moved := cardinality(entries);
    IF moved = 0 THEN
        RETURN;
    END IF;
    WITH sent AS MATERIALIZED (
        SELECT i.id, i.topic, i.value, CASE
            WHEN octet_length(i.topic) > 255 OR octet_length(i.value) > 65536
                OR i.checksum IS DISTINCT FROM checksum(i.topic, i.id, i.value)
                THEN 'it was not put here by publish() or delete(), or was changed since'
            ELSE topic_fault(i.topic)
        END AS fault
            FROM inbox AS i WHERE i.id = ANY (entries)
    ), put_aside AS (
        INSERT INTO refused (id, topic, value, because)
            SELECT sent.id, left(sent.topic, 255), substring(sent.value FOR 65536), sent.fault
                FROM sent WHERE sent.fault IS NOT NULL ON CONFLICT DO NOTHING
    ), newest AS (
        SELECT DISTINCT ON (sent.topic) sent.* FROM sent WHERE sent.fault IS NULL ORDER BY sent.topic, sent.id DESC
    ), change AS (
        SELECT newest.*, store.revision + begins::integer + row_number() OVER (ORDER BY newest.id) AS version
            FROM newest LEFT JOIN topic AS t ON t.topic = newest.topic
            WHERE coalesce(t.entry, 0) < newest.id
                AND (newest.value IS NOT NULL OR t.value IS NOT NULL
                    OR t.topic IS NOT NULL AND t.checksum IS DISTINCT FROM checksum(t.topic, t.version, NULL))
    )
    INSERT INTO topic AS t (version, topic, value, checksum, entry)
        SELECT c.version, c.topic, c.value, checksum(c.topic, c.version, c.value), c.id FROM change AS c
        ON CONFLICT (topic) DO UPDATE SET
            version = excluded.version, value = excluded.value, checksum = excluded.checksum, entry = excluded.entry;
    GET DIAGNOSTICS changed = ROW_COUNT;
    DELETE FROM inbox WHERE inbox.id = ANY (entries);
    DELETE FROM refused WHERE refused.id <= (
        SELECT r.id FROM refused AS r ORDER BY r.id DESC OFFSET refused_max LIMIT 1
    );
    IF changed > 0 THEN
        IF begins THEN
            revision := revision + 1;
            PERFORM put_lineage(revision);
            begins := false;
        END IF;
        revision := revision + changed;
        PERFORM advance(revision, floor, keys, publishers, present);
    END IF;
    more := moved < waiting OR waiting = inbox_max AND EXISTS (SELECT FROM inbox);
END
$$;

-- Apply one change within the caller's transaction, which holds the row of meta from then on. Return the topic's
-- version: the new one, or that of its tombstone (0: there is none) when there was nothing to delete.
CREATE FUNCTION change(name text, stored bytea, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    store record;
    former record;
    current bigint;
    readable boolean;
    live boolean;
BEGIN
    PERFORM check_topic(name);
    IF expected < -1 THEN
        RAISE EXCEPTION 'softstate: expect must be a version, 0 (no topic) or -1 (any version), not %', expected
            USING ERRCODE = 'SS400';
    END IF;
    PERFORM commit_synchronously();
    LOOP
        SELECT * INTO STRICT store FROM take_counter(false);
        IF store.layout <> 2 THEN
            RAISE EXCEPTION 'softstate: the store has layout %, this function knows 2: call the new one', store.layout
                USING ERRCODE = 'SS500';
        ELSIF store.sound IS NOT TRUE THEN
            RAISE EXCEPTION 'softstate: the row of meta is damaged or missing: stop every node, and restore a backup'
                USING ERRCODE = 'SS500';
        END IF;
        EXIT WHEN NOT store.more;
    END LOOP;
    SELECT t.version, t.value, t.checksum IS NOT DISTINCT FROM checksum(t.topic, t.version, t.value) AS readable
        INTO former FROM topic AS t WHERE t.topic = name;
    current := coalesce(former.version, 0);
    readable := coalesce(former.readable, true);
    live := former.value IS NOT NULL OR NOT readable;
    IF expected = -1 AND NOT live OR expected = 0 AND live
        OR expected > 0 AND (expected <> current OR NOT readable OR stored IS NULL AND NOT live) THEN
        RAISE EXCEPTION 'softstate: topic % %', name, CASE
            WHEN NOT readable THEN 'was damaged and cannot be read: publish it without expect to mend that'
            WHEN expected = -1 THEN 'does not exist: read it, then decide again'
            ELSE format('is at version %s, not %s: read it, then decide again', current, expected)
        END USING ERRCODE = 'SS412';
    ELSIF stored IS NULL AND NOT live THEN
        RETURN current;
    END IF;
    IF store.begins THEN
        store.revision := store.revision + 1;
        PERFORM put_lineage(store.revision);
    END IF;
    store.revision := store.revision + 1;
    PERFORM put_topic(name, store.revision, stored, NULL);
    PERFORM advance(store.revision, store.floor, store.keys, store.publishers, store.present);
    PERFORM pg_notify(current_schema()::text, '');
    RETURN store.revision;
END
$$;

-- A commit that others have seen, and a crash takes back, would rewind the store.
CREATE FUNCTION commit_synchronously() RETURNS void LANGUAGE sql AS $$
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'
$$;

-- Put one change into the inbox, within the caller's transaction, which takes no lock of the store until it commits.
--
-- Its COMMIT notifies the nodes, and PostgreSQL lets one COMMIT that notifies end after the other, in all databases of the
-- server: while one waits for a synchronous standby, all others do. With softstate.notify = off the transaction does
-- not notify, and may be prepared (PREPARE TRANSACTION); an idle node finds the entry when it looks, each second.
CREATE FUNCTION send(name text, stored bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint := nextval(pg_get_serial_sequence(format('%I.inbox', current_schema()), 'id')::regclass);
BEGIN
    PERFORM check_topic(name);
    PERFORM commit_synchronously();
    INSERT INTO inbox (id, topic, value, checksum) OVERRIDING SYSTEM VALUE
        VALUES (number, name, stored, checksum(name, number, stored));
    IF lower(current_setting('softstate.notify', true)) IN ('off', 'false', 'no', '0') THEN
        RETURN;
    END IF;
    PERFORM pg_notify(current_schema()::text, 'inbox');
END
$$;

-- The functions that other programs call. Settings of their sessions must not change the meaning of these.
CREATE FUNCTION publish(topic text, value jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
BEGIN
    PERFORM send(topic, to_value(value));
END
$$;

CREATE FUNCTION delete(topic text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on AS $$
BEGIN
    PERFORM send(topic, NULL);
END
$$;

CREATE FUNCTION publish_now(topic text, value jsonb, expect bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
BEGIN
    RETURN change(topic, to_value(value), expect);
END
$$;

CREATE FUNCTION delete_now(topic text, expect bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on AS $$
BEGIN
    RETURN change(topic, NULL, expect);
END
$$;

CREATE FUNCTION publish(topic text, value jsonb, expect bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
BEGIN
    RETURN change(topic, to_value(value), expect);
END
$$;

CREATE FUNCTION delete(topic text, expect bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on AS $$
BEGIN
    RETURN change(topic, NULL, expect);
END
$$;

COMMENT ON FUNCTION publish(text, jsonb) IS
    'softstate: set a topic; a node publishes it soon after this transaction commits. It returns nothing: publish_now'
    ' tells the version. It takes no lock; COMMIT, which notifies, waits for others that do. SET softstate.notify = off'
    ' leaves that out, and a node looks within a second';
COMMENT ON FUNCTION delete(text) IS 'softstate: delete a topic; see publish';
COMMENT ON FUNCTION publish_now(text, jsonb, bigint) IS
    'softstate: set a topic and return its version; every subscriber sees it once this transaction commits.'
    ' Call it last: other publishes wait until then. expect: the version that must be current, 0 for none, -1 for any';
COMMENT ON FUNCTION delete_now(text, bigint) IS
    'softstate: delete a topic and return the version of that; see publish_now';
COMMENT ON FUNCTION publish(text, jsonb, bigint) IS 'softstate: the same as publish_now';
COMMENT ON FUNCTION delete(text, bigint) IS 'softstate: the same as delete_now';

-- Raised with each change of a function, here or in cbor.sql: a store with a lower number gets these when it is opened.
COMMENT ON FUNCTION take_counter(boolean) IS 'softstate: functions, number 8';

-- Those that other programs call are in rights.sql.
REVOKE ALL ON FUNCTION
    incarnation(), checksum(text, bigint, bytea), part(bytea), lineage_checksum(bigint, text),
    key_checksum(text, bytea, bigint, bytea), publisher_checksum(bytea, bigint, bigint, bytea),
    meta_checksum(integer, text, bigint, bigint, bigint, bigint, text), topic_fault(text), check_topic(text),
    advance(bigint, bigint, bigint, bigint, text), put_lineage(bigint), put_topic(text, bigint, bytea, bigint),
    raise_numbers(), take_counter(boolean), change(text, bytea, bigint), commit_synchronously(), send(text, bytea)
    FROM PUBLIC;
