-- A value, as SQL has it (jsonb), in CBOR (RFC 8949): what softstate's own encoder makes of the same JSON.

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

-- Encode a value to be published, checked against the limits. No node is there to refuse it later. The levels of a value
-- are counted as far as they may go: to_cbor refuses it for more.
CREATE FUNCTION to_value(value jsonb) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    items_max CONSTANT integer := 4096;
    bytes_max CONSTANT integer := 65536;
    items bigint;
    encoded bytea;
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION 'softstate: value is NULL: pass ''null''::jsonb, or call delete' USING ERRCODE = 'SS400';
    END IF;
    -- The value itself is no item, and {"$bytes": ...} is one without a member.
    SELECT count(*) - 1 - count(*) FILTER (
        WHERE jsonb_typeof(part) = 'object' AND part ? '$bytes' AND part - '$bytes' = '{}'
    ) INTO items FROM jsonb_path_query(value, 'strict $.**{0 to 33}') AS part;
    IF items > items_max THEN
        RAISE EXCEPTION 'softstate: value holds % items (members of lists and maps), the limit is %', items, items_max
            USING ERRCODE = 'SS413',
                HINT = 'Send numbers as one text or bytes, or publish the parts as topics of their own.';
    END IF;
    encoded := to_cbor(value);
    IF octet_length(encoded) > bytes_max THEN
        RAISE EXCEPTION 'softstate: value is % bytes encoded as CBOR, the limit is %', octet_length(encoded), bytes_max
            USING ERRCODE = 'SS413';
    END IF;
    RETURN encoded;
END
$$;

REVOKE ALL ON FUNCTION
    cbor_head(integer, bigint), cbor_number(numeric), cbor_bytes(jsonb), to_cbor(jsonb, integer), to_value(jsonb)
    FROM PUBLIC;
