"""The Trio shell of a node: front door, HTTP routes, WebSocket sessions, outboxes, hub and feed."""

from softstate.server.config import ServerConfig as ServerConfig
from softstate.server.node import Node as Node, serve as serve
