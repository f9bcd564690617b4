"""A cache of rows in PostgreSQL, in every worker, that is right by construction.

A row and its publish commit in one transaction: neither is there without the other. Each worker answers from memory as
long as what it knows is young enough, and asks the database otherwise: while no node can be reached it is slower, and
never wrong.

Run a node on the same database (``softstate serve --store postgresql://…``), and beside it, as often as you like,
``DATABASE=postgresql://… PORT=8701 python -m softstate.examples.cache``. Then::

    psql -c 'CREATE TABLE price (product text PRIMARY KEY, cents integer NOT NULL)' postgresql://…
    curl -X PUT 'localhost:8701/pen?120'
    curl localhost:8702/pen                   # {"cents": 120, "from": "memory", "age": 0.4}
"""

import json
import os
from collections.abc import Iterable
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import psycopg
from psycopg.types.json import Jsonb

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")
DATABASE = os.environ.get("DATABASE", "postgresql://127.0.0.1/shop")
PORT = int(os.environ.get("PORT", "8701"))
MAX_AGE_S = 3.0

soft = softstate.sync.connect(URL)


def set_price(product: str, cents: int) -> None:
    """Write a price, and tell all workers."""
    with psycopg.connect(DATABASE) as connection:  # commits at the end of the block
        connection.execute(
            "INSERT INTO price VALUES (%s, %s) ON CONFLICT (product) DO UPDATE SET cents = excluded.cents",
            (product, cents),
        )
        # Other publishes wait from here to the commit. `softstate.publish` lets them go on, but takes effect only when
        # a node has heard of it, which may be a second later than ages say.
        connection.execute("SELECT softstate.publish_now(%s, %s)", (f"prices/{product}", Jsonb(cents)))


def price(product: str) -> dict[str, object]:
    """Read a price: from memory if that is young enough, else from the database."""
    soft.follow("prices/")
    try:
        known = soft.known(f"prices/{product}", max_age=MAX_AGE_S)
    except softstate.Stale:
        known = None
    if known is not None:
        return {"cents": known.value, "from": "memory", "age": known.age}
    with psycopg.connect(DATABASE) as connection:
        row = connection.execute("SELECT cents FROM price WHERE product = %s", (product,)).fetchone()
    return {"cents": None if row is None else row[0], "from": "database", "age": 0.0}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer GET /PRODUCT and PUT /PRODUCT?CENTS."""
    product = environ["PATH_INFO"].strip("/")
    if environ["REQUEST_METHOD"] == "PUT":
        set_price(product, int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(price(product)).encode() + b"\n"]


if __name__ == "__main__":
    with make_server("127.0.0.1", PORT, application) as server:
        server.serve_forever()
