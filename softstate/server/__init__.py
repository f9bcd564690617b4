"""The Trio shell of a node: HTTP server and routes, WebSocket sessions, outboxes, hub and store access."""

from softstate.server.config import ServerConfig as ServerConfig
from softstate.server.node import Node as Node
from softstate.server.serving import serve as serve
