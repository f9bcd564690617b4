"""A provider for OpenFeature: flags are topics, answered from memory, and the answer says how old it may be.

Flags go on as they were known last while no node can be reached: their reason is then STALE, not CACHED. Before a node
has answered for the first time they have their default.

Run it beside a node (``softstate serve``): ``python -m softstate.examples.openfeature_provider``. Then::

    softstate publish flags/new-checkout true
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

import softstate

URL = os.environ.get("SOFTSTATE_URL", "ws://127.0.0.1:8700")


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

    def _resolve(self, key: str, default: Any, *kinds: type) -> FlagResolutionDetails[Any]:
        try:
            known = self.soft.known(self.prefix + key, max_age=math.inf)
        except softstate.Stale:
            return FlagResolutionDetails(default, ErrorCode.PROVIDER_NOT_READY, "no node has answered yet")
        if known is None:
            return FlagResolutionDetails(default, ErrorCode.FLAG_NOT_FOUND, f"no topic {self.prefix}{key}")
        if type(known.value) not in kinds:
            return FlagResolutionDetails(default, ErrorCode.TYPE_MISMATCH, f"{key} is {known.value!r}")
        reason = Reason.CACHED if known.age <= self.max_age else Reason.STALE
        return FlagResolutionDetails(known.value, reason=reason, flag_metadata={"age": known.age})

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Answer a flag that is true or false; the others likewise."""
        return self._resolve(flag_key, default_value, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        return self._resolve(flag_key, default_value, float, int)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        return self._resolve(flag_key, default_value, dict, list)


if __name__ == "__main__":
    api.set_provider(SoftstateProvider())
    while True:
        details = api.get_client().get_boolean_details("new-checkout", default_value=False)
        print(details.value, details.reason, details.flag_metadata, details.error_message or "", flush=True)
        time.sleep(1)
