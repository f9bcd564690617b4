-- An application may call these once it is granted USAGE of the schema and EXECUTE of them; the tables stay closed. Run
-- when the functions are made, and not when they are replaced: grants of later stay.
REVOKE ALL ON FUNCTION
    publish(text, jsonb), delete(text), publish_now(text, jsonb, bigint), delete_now(text, bigint),
    publish(text, jsonb, bigint), delete(text, bigint)
    FROM PUBLIC;
