"""A FastAPI application that answers from what it follows, and says how old that may be.

Run it beside a node (``softstate serve``): ``uvicorn softstate.examples.fastapi_app:app``. Then::

    softstate publish prices/eur 1.5
    curl localhost:8000/price/eur         # {"price":1.5,"age":0.7}
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, softstate.Client]]:
    """Hold one client for as long as the application runs."""
    async with softstate.connect(URL, max_age=5.0) as client, client.subscribe("prices/"):
        yield {"softstate": client}


app = FastAPI(lifespan=lifespan)


@app.get("/price/{currency}")
async def price(currency: str, request: Request) -> dict[str, Any]:
    """Answer from memory; a node is asked if that may be older than 5 s, and for 2 s at most."""
    known = await request.state.softstate.read(f"prices/{currency}", timeout_s=2.0)
    if known is None:
        raise HTTPException(404, f"no price of {currency} was published")
    return {"price": known.value, "age": known.age}


@app.put("/price/{currency}")
async def set_price(currency: str, value: Annotated[float, Body()], request: Request) -> dict[str, int]:
    """Publish a price; it is durable when this answers."""
    return {"version": await request.state.softstate.publish(f"prices/{currency}", value, timeout_s=2.0)}


@app.exception_handler(softstate.Invalid)
async def no_topic(_: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a name or a value."""
    return JSONResponse({"detail": str(error)}, 400)


@app.exception_handler(softstate.Stale)
@app.exception_handler(softstate.Unavailable)
@app.exception_handler(softstate.OutcomeUnknown)
async def no_node(_: Request, error: Exception) -> JSONResponse:
    """Say that no node could be reached in time."""
    return JSONResponse({"detail": str(error)}, 503)
