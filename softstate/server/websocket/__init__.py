"""WebSocket connections of a node."""
