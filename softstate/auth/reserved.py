"""Topics whose first segment begins with ``$``: reserved where there are rules (P-AUTH-2).

A grant of ``/`` does not cover them, but a subscription to ``/`` is pushed every topic. As long as that is so, none is
published: a filter of pushes would be needed else.
"""

from __future__ import annotations

from softstate.auth.identity import Identity
from softstate.errors import Invalid


def check_not_reserved(identity: Identity, topic: str) -> None:
    """Raise `Invalid` for a topic that is reserved, unless everybody may do all."""
    if topic.startswith("$") and not (identity.is_anonymous and identity.grant.admin):
        raise Invalid(f"topics whose first segment begins with '$' are reserved, such as {topic!r}: choose another")
