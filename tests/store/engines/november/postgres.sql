-- pg_dump of a store that softstate of November 2026 (commit 502e1a6) has written: layout 1.
-- Five values were changed by hand then: damaged, deep, tag, json, not json.

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE SCHEMA november;

ALTER SCHEMA november OWNER TO softstate;

CREATE FUNCTION november.cbor_bytes(value jsonb) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
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
$_$;

ALTER FUNCTION november.cbor_bytes(value jsonb) OWNER TO softstate;

CREATE FUNCTION november.cbor_head(major integer, number bigint) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE
        WHEN number < 24 THEN set_byte('\x00', 0, (major * 32 + number)::integer)
        WHEN number < 256 THEN set_byte('\x00', 0, major * 32 + 24) || substring(int8send(number) FROM 8)
        WHEN number < 65536 THEN set_byte('\x00', 0, major * 32 + 25) || substring(int8send(number) FROM 7)
        WHEN number < 4294967296 THEN set_byte('\x00', 0, major * 32 + 26) || substring(int8send(number) FROM 5)
        ELSE set_byte('\x00', 0, major * 32 + 27) || int8send(number)
    END
$$;

ALTER FUNCTION november.cbor_head(major integer, number bigint) OWNER TO softstate;

CREATE FUNCTION november.cbor_number(number numeric) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE
    AS $$
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

ALTER FUNCTION november.cbor_number(number numeric) OWNER TO softstate;

CREATE FUNCTION november.change(name text, stored bytea, expected bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
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

ALTER FUNCTION november.change(name text, stored bytea, expected bigint) OWNER TO softstate;

CREATE FUNCTION november.check_topic(name text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
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

ALTER FUNCTION november.check_topic(name text) OWNER TO softstate;

CREATE FUNCTION november.delete(topic text, expect bigint DEFAULT NULL::bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'november', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    AS $$
BEGIN
    RETURN change(topic, NULL, expect);
END
$$;

ALTER FUNCTION november.delete(topic text, expect bigint) OWNER TO softstate;

COMMENT ON FUNCTION november.delete(topic text, expect bigint) IS 'softstate: delete a topic and return the version of that; see publish';

CREATE FUNCTION november.incarnation() RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT concat_ws(
        ' ',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
        extract(epoch FROM pg_postmaster_start_time()),
        'meta'::regclass::oid,
        pg_relation_filenode('meta')
    )
$$;

ALTER FUNCTION november.incarnation() OWNER TO softstate;

CREATE FUNCTION november.publish(topic text, value jsonb, expect bigint DEFAULT NULL::bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'november', 'pg_temp'
    SET standard_conforming_strings TO 'on'
    SET extra_float_digits TO '1'
    AS $$
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

ALTER FUNCTION november.publish(topic text, value jsonb, expect bigint) OWNER TO softstate;

COMMENT ON FUNCTION november.publish(topic text, value jsonb, expect bigint) IS 'softstate: set a topic and return its version; every subscriber sees it once this transaction commits. Call it last: other publishes wait until then. expect: the version that must be current, 0 for none';

CREATE FUNCTION november.to_cbor(value jsonb, depth integer DEFAULT 0) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE
    AS $_$
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
$_$;

ALTER FUNCTION november.to_cbor(value jsonb, depth integer) OWNER TO softstate;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE november.idempotency (
    version bigint NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    key bytea NOT NULL,
    digest bytea NOT NULL
);

ALTER TABLE november.idempotency OWNER TO softstate;

COMMENT ON TABLE november.idempotency IS 'softstate: which requests were applied already';

CREATE TABLE november.lineage (
    start bigint NOT NULL,
    nonce text NOT NULL
);

ALTER TABLE november.lineage OWNER TO softstate;

COMMENT ON TABLE november.lineage IS 'softstate: where a new history may have begun';

CREATE TABLE november.meta (
    id integer DEFAULT 1 NOT NULL,
    layout integer NOT NULL,
    epoch text NOT NULL,
    head bigint NOT NULL,
    floor bigint NOT NULL,
    keys bigint NOT NULL,
    incarnation text NOT NULL,
    written xid NOT NULL,
    CONSTRAINT meta_id_check CHECK ((id = 1))
)
WITH (fillfactor='10');

ALTER TABLE november.meta OWNER TO softstate;

COMMENT ON TABLE november.meta IS 'softstate: one row, which every commit locks; do not change it by hand';

COMMENT ON COLUMN november.meta.written IS 'xmin of this very row, unless somebody else has put it here: a restore';

CREATE TABLE november.topic (
    version bigint NOT NULL,
    topic text NOT NULL COLLATE pg_catalog."C",
    value bytea
);

ALTER TABLE november.topic OWNER TO softstate;

COMMENT ON TABLE november.topic IS 'softstate: the newest version and value (CBOR, NULL: deleted) of every topic';

COPY november.idempotency (version, topic, key, digest) FROM stdin;
2	null	\\x6b65792030	\\x00000000
3	text	\\x6b65792031	\\x01010101
4	number	\\x6b65792032	\\x02020202
5	real	\\x6b65792033	\\x03030303
6	bytes	\\x6b65792034	\\x04040404
7	map	\\x6b65792035	\\x05050505
8	gone	\\x6b65792036	\\x06060606
9	ä/nested/name	\\x6b65792037	\\x07070707
\.

COPY november.lineage (start, nonce) FROM stdin;
1	f91b6d77d94cb6c2
11	446c351beef375e7
\.

COPY november.meta (id, layout, epoch, head, floor, keys, incarnation, written) FROM stdin;
1	1	644384c65183d30da6aa3c71e6300735	18	0	8	7713325264431355361 00000001 1795898487.851194 16413 16413	743
\.

COPY november.topic (version, topic, value) FROM stdin;
2	null	\\xd9d9f7f6
3	text	\\xd9d9f765c3a4e282ac
4	number	\\xd9d9f726
5	real	\\xd9d9f7fb3ff8000000000000
6	bytes	\\xd9d9f74200ff
7	map	\\xd9d9f7a161618201a16162f6
9	ä/nested/name	\\xd9d9f7f5
10	gone	\N
12	after	\\xd9d9f701
18	direct	\\xd9d9f7a16573746174656470616964
13	damaged	\\xd9d9f7ffff
14	deep	\\xd9d9f78181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818101
15	tag	\\xd9d9f7d8236128
16	json	\\x7b226279223a202268616e64227d
17	not json	\\x7b
\.

ALTER TABLE ONLY november.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (version);

ALTER TABLE ONLY november.idempotency
    ADD CONSTRAINT idempotency_topic_key_key UNIQUE (topic, key);

ALTER TABLE ONLY november.lineage
    ADD CONSTRAINT lineage_pkey PRIMARY KEY (start);

ALTER TABLE ONLY november.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (id);

ALTER TABLE ONLY november.topic
    ADD CONSTRAINT topic_pkey PRIMARY KEY (version);

ALTER TABLE ONLY november.topic
    ADD CONSTRAINT topic_topic_key UNIQUE (topic);

CREATE INDEX topic_tombstone ON november.topic USING btree (version) WHERE (value IS NULL);

GRANT USAGE ON SCHEMA november TO november_app;

REVOKE ALL ON FUNCTION november.cbor_bytes(value jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION november.cbor_head(major integer, number bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION november.cbor_number(number numeric) FROM PUBLIC;

REVOKE ALL ON FUNCTION november.change(name text, stored bytea, expected bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION november.check_topic(name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION november.incarnation() FROM PUBLIC;

REVOKE ALL ON FUNCTION november.publish(topic text, value jsonb, expect bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION november.publish(topic text, value jsonb, expect bigint) TO november_app;

REVOKE ALL ON FUNCTION november.to_cbor(value jsonb, depth integer) FROM PUBLIC;

