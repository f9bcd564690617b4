"""Configuration that changes while a program runs, and is there at its start even if no node is.

The last good settings are kept in a file. A program that starts while every node is down begins with those, and takes
the newest when a node is back. Settings that do not fit their type are refused, and the last good ones stay.

Run it beside a node (``softstate serve``), or without one: ``python -m softstate.examples.config``. Then::

    softstate publish config/shop '{"greeting": "Hi", "free_shipping_from": 20}'
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")
FILE = Path(os.environ.get("SETTINGS", "settings.json"))
TOPIC = "config/shop"


@dataclass(frozen=True)
class Settings:
    """The settings of this program, and what holds if there never were others."""

    greeting: str = "Hello"
    free_shipping_from: int = 50


def load(path: Path) -> Settings:
    """Read the settings that were good last."""
    try:
        return Settings(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Settings()


def save(settings: Settings, path: Path) -> None:
    """Keep settings, so that a crash leaves the old file or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(settings)))
    new.replace(path)


def use(settings: Settings) -> None:
    """Apply settings: here, print them."""
    print(f"{settings.greeting}! Shipping is free from {settings.free_shipping_from}.", flush=True)


async def main(url: str = URL, path: Path = FILE) -> None:
    """Use the last good settings, then each that comes, until cancelled."""
    use(load(path))
    async with softstate.connect(url) as client, client.subscribe(TOPIC, type=Settings) as updates:
        while True:
            try:
                change = await anext(updates)
            except softstate.Invalid as error:
                print(f"refused: {error}", flush=True)
            else:
                settings = Settings() if change.deleted else change.value
                save(settings, path)
                use(settings)


if __name__ == "__main__":
    trio.run(main)
