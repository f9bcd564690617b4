"""A scripted node with a tiny store, enough of one to take a whole client through its life in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from trio_websocket import WebSocketConnection

import softstate
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.client.api.inbox import UpdateEvent
from softstate.client.api.updates import Updates
from softstate.client.shell.clock import TrioClock
from softstate.http_client.streams import OpenStream
from softstate.model import Change
from softstate.position import Position
from softstate.wire import CBOR, JSON, digest_of, digest_text
from softstate.wire.messages import (
    Error,
    Hello,
    Message,
    Notify,
    Publish,
    Published,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from tests.kit.scripted_node import WELCOME, ScriptedNode

URL = "ws://node"


@dataclass
class PushNode:
    """A node with a tiny store in a dict, enough of one to take a client through its life."""

    node: ScriptedNode
    revision: int = 5
    topics: dict[str, Change] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    sockets: list[WebSocketConnection] = field(default_factory=list)
    welcome: Welcome = WELCOME
    mute: bool = False
    """Take publishes without answering."""
    published: list[Publish] = field(default_factory=list)

    @property
    def position(self) -> Position:
        return self.welcome.position.at(self.revision)

    async def serve(self, ws: WebSocketConnection) -> None:
        self.sockets.append(ws)
        while True:
            match await self.node.receive(ws):
                case Hello():
                    await self.say(ws, self.welcome)
                case Subscribe() as message:
                    await self.subscribe(ws, message)
                case Unsubscribe() as message:
                    for name in (*message.topics, *message.prefixes):
                        self.names.pop(name, None)
                case Renew() as message:
                    match = message.digest == digest_text(digest_of(self.names))
                    await self.say(
                        ws,
                        Renewed(
                            message.id, match, self.position, 0, 60_000, 20_000, WELCOME.poll, WELCOME.recover, "ok"
                        ),
                    )
                case Publish() as message:
                    self.published.append(message)
                    if not self.mute:
                        await self.publish(ws, message)

    async def subscribe(self, ws: WebSocketConnection, message: Subscribe) -> None:
        if message.replace:
            self.names.clear()
        asked = {**message.topics, **message.prefixes}
        granted = [name for name in asked if name not in self.denied]
        self.names.update(dict.fromkeys(granted))
        changes = [
            change
            for change in self.topics.values()
            if any(softstate.names.covers(name, change.topic) and change.version > asked[name] for name in granted)
        ]
        denied = [name for name in asked if name in self.denied]
        await self.say(ws, Subscribed(message.id, self.position, changes, denied=denied))

    async def publish(self, ws: WebSocketConnection, message: Publish) -> None:
        known = self.topics.get(message.topic)
        version = 0 if known is None or known.deleted else known.version
        if message.expect is not None and message.expect != version:
            await self.say(ws, Error("conflict", "lost", id=message.id, current=version))
            return
        if message.deleted and (known is None or known.deleted):
            gone = 0 if known is None else known.version
            await self.say(ws, Published(message.id, message.topic, gone, self.position))
            return
        change = self.put(message.topic, message.value if not message.deleted else None, deleted=message.deleted)
        await self.say(ws, Published(message.id, message.topic, change.version, self.position))

    def put(self, topic: str, value: object, *, deleted: bool = False) -> Change:
        self.revision += 1
        change = self.topics[topic] = Change(topic, self.revision, value, deleted)
        return change

    async def say(self, ws: WebSocketConnection, message: Message) -> None:
        codec = JSON if ws.subprotocol == JSON.protocol else CBOR
        data = codec.encode(message)
        await ws.send_message(data.decode() if codec.text else data)

    async def push(self, topic: str, value: object) -> None:
        change = self.put(topic, value)
        await self.say(self.sockets[-1], Notify(topic, change.version, value))


@asynccontextmanager
async def client_of(open_stream: OpenStream, *urls: str, push: bool = True) -> AsyncIterator[Client]:
    async with connect(
        urls or (URL,), push=push, ordered=True, open_stream=open_stream, random=random.Random(1), clock=TrioClock()
    ) as client:
        yield client


async def until(client: Client, mode: str) -> None:
    async for now in client.modes():
        if now == mode:
            return


async def drain(updates: Updates) -> list[UpdateEvent]:
    """Take what is pending."""
    found: list[UpdateEvent] = []
    events = updates.events()
    with trio.move_on_after(0.001):
        while True:
            found.append(await anext(events))
    return found
