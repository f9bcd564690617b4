"""The configuration of a node; `OPTIONS.md` beside this file lists it."""

from softstate.server.config.server_config import Role as Role, ServerConfig as ServerConfig
