"""A provider for OpenFeature: flags are topics, answered from memory, and the answer says how old it may be.

Flags go on as they were known last while no node can be reached: their reason is then STALE, not CACHED. Before a node
has answered for the first time they have their default.

Run it beside a node (``softstate serve``): ``python -m softstate.examples.openfeature_provider``. Then::

    softstate publish flags/new-checkout true
"""

import math
import os
import time
from typing import Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")


def _resolver(*kinds: type) -> Any:
    """Return a method of a provider, which answers flags whose values are of these types."""

    def resolve(
        self: "SoftstateProvider",
        flag_key: str,
        default_value: Any,
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG001 - OpenFeature gives it
    ) -> FlagResolutionDetails[Any]:
        try:
            known = self.soft.known(self.prefix + flag_key, max_age=math.inf)
        except softstate.Stale:
            return FlagResolutionDetails(default_value, ErrorCode.PROVIDER_NOT_READY, "no node has answered yet")
        if known is None:
            return FlagResolutionDetails(default_value, ErrorCode.FLAG_NOT_FOUND, f"no topic {self.prefix}{flag_key}")
        if type(known.value) not in kinds:
            return FlagResolutionDetails(default_value, ErrorCode.TYPE_MISMATCH, f"{flag_key} is {known.value!r}")
        reason = Reason.CACHED if known.age <= self.max_age else Reason.STALE
        return FlagResolutionDetails(known.value, reason=reason, flag_metadata={"age": known.age})

    return resolve


class SoftstateProvider(AbstractProvider):
    """Answers flags from the topics below `prefix`; those older than `max_age` seconds are STALE."""

    def __init__(self, url: str = URL, prefix: str = "flags/", max_age: float = 10.0) -> None:
        super().__init__()
        self.soft = softstate.sync.connect(url)
        self.prefix = prefix
        self.max_age = max_age

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Begin to follow the flags."""
        self.soft.follow(self.prefix)

    def shutdown(self) -> None:
        """Say goodbye to the node."""
        self.soft.close()

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata("softstate")

    resolve_boolean_details = _resolver(bool)
    resolve_string_details = _resolver(str)
    resolve_integer_details = _resolver(int)
    resolve_float_details = _resolver(float, int)
    resolve_object_details = _resolver(dict, list)


if __name__ == "__main__":
    api.set_provider(SoftstateProvider())
    while True:
        details = api.get_client().get_boolean_details("new-checkout", default_value=False)
        print(details.value, details.reason, details.flag_metadata, details.error_message or "", flush=True)
        time.sleep(1)
