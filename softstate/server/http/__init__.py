"""The HTTP side of a node: server, routes, and the handshakes of WebSockets."""
