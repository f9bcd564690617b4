"""Streams of server-sent events: sessions whose client only listens."""
