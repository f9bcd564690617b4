"""Where connections come in: what is below a connection, and who waits for it."""
