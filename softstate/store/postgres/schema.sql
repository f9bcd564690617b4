-- The layout of a softstate store in PostgreSQL. Run once, in a schema of its own that search_path names alone.
--
-- A topic's row has its version as the primary key, so the change feed and everything "since" are range scans; names
-- are compared by their bytes, so a prefix is one too. Every transaction that changes anything locks the one row of
-- meta first and keeps it until it commits: that is what makes revisions follow the order of commits.

CREATE TABLE topic (version bigint PRIMARY KEY, topic text COLLATE "C" NOT NULL UNIQUE, value bytea);
CREATE INDEX topic_tombstone ON topic (version) WHERE value IS NULL;
CREATE TABLE lineage (start bigint PRIMARY KEY, nonce text NOT NULL);
CREATE TABLE idempotency (
    version bigint PRIMARY KEY,
    topic text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    digest bytea NOT NULL,
    UNIQUE (topic, key)
);
CREATE TABLE meta (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    layout integer NOT NULL,
    epoch text NOT NULL,
    head bigint NOT NULL,
    floor bigint NOT NULL,
    keys bigint NOT NULL,
    incarnation text NOT NULL,
    written xid NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE topic IS 'softstate: the newest version and value (CBOR, NULL: deleted) of every topic';
COMMENT ON TABLE lineage IS 'softstate: where a new history may have begun';
COMMENT ON TABLE idempotency IS 'softstate: which requests were applied already';
COMMENT ON TABLE meta IS 'softstate: one row, which every commit locks; do not change it by hand';
COMMENT ON COLUMN meta.written IS 'xmin of this very row, unless another program has put it here: a restore';

-- Differs once history may have been rewound: another cluster, a failover, a restart, a table that was made again.
CREATE FUNCTION incarnation() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(
        ' ',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
        extract(epoch FROM pg_postmaster_start_time()),
        'meta'::regclass::oid,
        pg_relation_filenode('meta')
    )
$$;

CREATE FUNCTION check_topic(name text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'softstate: topic must be 1 to 255 bytes of UTF-8, this one has %',
            coalesce(octet_length(name), 0) USING ERRCODE = 'SS400';
    ELSIF name ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION 'softstate: topic must not hold control characters' USING ERRCODE = 'SS400';
    ELSIF '/' || name || '/' ~ '/\.{0,2}/' THEN
        RAISE EXCEPTION
            'softstate: topic must not begin or end with ''/'', nor hold an empty, ''.'' or ''..'' segment: %',
            name USING ERRCODE = 'SS400';
    END IF;
END
$$;

-- The first bytes of a CBOR item (RFC 8949 section 3): its major type, and a length or number.
CREATE FUNCTION cbor_head(major integer, number bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN number < 24 THEN set_byte('\x00', 0, (major * 32 + number)::integer)
        WHEN number < 256 THEN set_byte('\x00', 0, major * 32 + 24) || substring(int8send(number) FROM 8)
        WHEN number < 65536 THEN set_byte('\x00', 0, major * 32 + 25) || substring(int8send(number) FROM 7)
        WHEN number < 4294967296 THEN set_byte('\x00', 0, major * 32 + 26) || substring(int8send(number) FROM 5)
        ELSE set_byte('\x00', 0, major * 32 + 27) || int8send(number)
    END
$$;

CREATE FUNCTION cbor_number(number numeric) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF scale(number) = 0 AND number BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        RETURN CASE WHEN number < 0 THEN cbor_head(1, (-1 - number)::bigint) ELSE cbor_head(0, number::bigint) END;
    ELSIF abs(number) > 1.7976931348623157e308
        -- A double that has no fraction comes here as a long integer; any other long integer would lose digits.
        OR scale(number) = 0 AND number::float8::text::numeric <> number THEN
        RAISE EXCEPTION 'softstate: a number in the value fits neither 64 bits, signed, nor a double: pass it as text'
            USING ERRCODE = 'SS400';
    END IF;
    -- PostgreSQL makes an error of what rounds to 0.
    RETURN '\xfb' || float8send(CASE WHEN abs(number) < 4.94e-324 THEN 0 ELSE number::float8 END);
END
$$;

CREATE FUNCTION cbor_bytes(value jsonb) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    encoded text := CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END;
    raw bytea;
BEGIN
    IF encoded IS NULL OR encoded !~ '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$' THEN
        RAISE EXCEPTION 'softstate: {"$bytes": …} must hold standard base64 text' USING ERRCODE = 'SS400';
    END IF;
    raw := decode(encoded, 'base64');
    RETURN cbor_head(2, octet_length(raw)) || raw;
END
$$;

CREATE FUNCTION to_cbor(value jsonb, depth integer DEFAULT 0) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind text := jsonb_typeof(value);
    raw bytea;
    items bigint;
BEGIN
    IF kind = 'null' THEN
        RETURN '\xf6';
    ELSIF kind = 'boolean' THEN
        RETURN CASE WHEN value::boolean THEN '\xf5'::bytea ELSE '\xf4'::bytea END;
    ELSIF kind = 'number' THEN
        RETURN cbor_number(value::numeric);
    ELSIF kind = 'string' THEN
        raw := convert_to(value #>> '{}', 'UTF8');
        RETURN cbor_head(3, octet_length(raw)) || raw;
    ELSIF kind = 'object' AND value ? '$bytes' AND value - '$bytes' = '{}' THEN
        RETURN cbor_bytes(value -> '$bytes');
    ELSIF depth >= 32 THEN
        RAISE EXCEPTION 'softstate: value is nested deeper than 32 levels' USING ERRCODE = 'SS400';
    ELSIF kind = 'array' THEN
        SELECT count(*), string_agg(to_cbor(item, depth + 1), '' ORDER BY place) INTO items, raw
            FROM jsonb_array_elements(value) WITH ORDINALITY AS element (item, place);
        RETURN cbor_head(4, items) || coalesce(raw, '');
    END IF;
    SELECT count(*), string_agg(to_cbor(to_jsonb(name)) || to_cbor(item, depth + 1), '') INTO items, raw
        FROM jsonb_each(value) AS member (name, item);
    RETURN cbor_head(5, items) || coalesce(raw, '');
END
$$;

-- Apply one change within the caller's transaction, which holds the row of meta from then on; return its version.
CREATE FUNCTION change(name text, stored bytea, expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    store record;
    current bigint;
    live boolean;
    revision bigint;
    intact boolean;
BEGIN
    PERFORM check_topic(name);
    IF current_setting('synchronous_commit') = 'off' THEN
        -- A commit that others have seen, and a crash takes back, would rewind the store.
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    SELECT meta.head, meta.incarnation AS former, meta.xmin = meta.written AS intact, incarnation() AS present
        INTO STRICT store FROM meta FOR UPDATE;
    revision := store.head + 1;
    IF store.former <> store.present OR NOT store.intact THEN
        INSERT INTO lineage VALUES (revision, encode(substring(uuid_send(gen_random_uuid()) FROM 1 FOR 8), 'hex'));
        revision := revision + 1;
    END IF;
    SELECT version, value IS NOT NULL INTO current, live FROM topic WHERE topic = name;
    IF expected <> coalesce(current, 0) AND NOT (expected = 0 AND NOT live) THEN
        RAISE EXCEPTION 'softstate: topic % is at version %, not %: read it, then decide again',
            name, coalesce(current, 0), expected USING ERRCODE = 'SS412';
    END IF;
    INSERT INTO topic VALUES (revision, name, stored)
        ON CONFLICT (topic) DO UPDATE SET version = excluded.version, value = excluded.value;
    UPDATE meta SET head = revision, incarnation = store.present, written = pg_current_xact_id()::xid
        RETURNING xmin = written INTO intact;
    IF NOT intact THEN
        -- Within a savepoint rows bear the number of the subtransaction, which only a row that was written tells.
        UPDATE meta SET written = xmin;
    END IF;
    PERFORM pg_notify(current_schema()::text, '');
    RETURN revision;
END
$$;

-- The two functions that other programs call. Settings of their sessions must not change the meaning of these.
CREATE FUNCTION publish(topic text, value jsonb, expect bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
DECLARE
    encoded bytea := to_cbor(value);
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION 'softstate: value is NULL: pass ''null''::jsonb, or call delete' USING ERRCODE = 'SS400';
    ELSIF octet_length(encoded) > 65536 THEN
        RAISE EXCEPTION 'softstate: value is % bytes encoded as CBOR, the limit is 65536', octet_length(encoded)
            USING ERRCODE = 'SS413';
    END IF;
    RETURN change(topic, '\xd9d9f7'::bytea || encoded, expect);
END
$$;

CREATE FUNCTION delete(topic text, expect bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT SET standard_conforming_strings = on AS $$
BEGIN
    RETURN change(topic, NULL, expect);
END
$$;

COMMENT ON FUNCTION publish(text, jsonb, bigint) IS
    'softstate: set a topic and return its version; every subscriber sees it once this transaction commits.'
    ' Call it last: other publishes wait until then. expect: the version that must be current, 0 for none';
COMMENT ON FUNCTION delete(text, bigint) IS 'softstate: delete a topic and return the version of that; see publish';

-- An application may call these two once it is granted USAGE of the schema and EXECUTE of them; the tables stay closed.
REVOKE ALL ON FUNCTION
    incarnation(), check_topic(text), cbor_head(integer, bigint), cbor_number(numeric), cbor_bytes(jsonb),
    to_cbor(jsonb, integer), change(text, bytea, bigint), publish(text, jsonb, bigint), delete(text, bigint)
    FROM PUBLIC;
