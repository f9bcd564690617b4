"""HTTP/1.1 from a server's side as bytes, sans-I/O: requests in, replies out, every limit kept (P-HTTP-11, P-HTTP-15).

`Conversation` is all that a shell needs: it feeds what its socket received, and writes what it gets.
"""

from softstate.server.http1.conversation import CONTINUE, Conversation
from softstate.server.http1.head import RequestHead
from softstate.server.http1.known_heads import KnownHeads
from softstate.server.http1.reply import Header, Refused, Reply

__all__ = ["CONTINUE", "Conversation", "Header", "KnownHeads", "Refused", "Reply", "RequestHead"]
