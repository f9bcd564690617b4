"""Spans for OpenTelemetry: one for each publish over HTTP, and one for each store call that commits or reads.

They are made by the API alone, and only if an SDK was set up when the node starts, as the operator's
`opentelemetry-instrument` does. No span tells a topic, a value or a token, and an error only by the name of its class.
A delivery has no span, nor has a read of the head, which nodes make all the time, nor a message over WebSocket, which
bears no trace context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ParamSpec, TypeAlias

try:
    from opentelemetry.propagate import extract
    from opentelemetry.trace import (
        Link,
        ProxyTracerProvider,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        get_current_span,
        get_tracer,
        get_tracer_provider,
        use_span,
    )
except ModuleNotFoundError:
    INSTALLED = False
else:
    INSTALLED = True
    _tracer = get_tracer("softstate")

P = ParamSpec("P")

Cause: TypeAlias = "SpanContext"
"""Identifies the span of a publish."""

_STORE_CALLS = {"publishes": "commit", "reads": "read"}
"""The names of spans, by those of the batchers whose calls they are."""

ERROR_STATUS_MIN = 500
"""The least status of an answer that makes its span an error: a refusal is no error of the server."""


def tracing() -> bool:
    """Tell whether spans are made: the package is installed, and an SDK was set up."""
    return INSTALLED and not isinstance(get_tracer_provider(), ProxyTracerProvider)


def span_name(batcher: str) -> str | None:
    """Return the name of the spans of a batcher's calls; None if they have none."""
    return _STORE_CALLS.get(batcher) if tracing() else None


def cause() -> Cause | None:
    """Return the span of the publish that is being answered, to which a store call links; None if there is none."""
    context = get_current_span().get_span_context()
    return context if context.is_valid else None


class StoreCall:
    """The span of one store call: a block that ends with it. It links to the spans that `causes` names, each once."""

    __slots__ = ("_scope", "_span")

    def __init__(self, name: str, requests: int, causes: Iterable[Cause | None]) -> None:
        links = [Link(each) for each in {each.span_id: each for each in causes if each is not None}.values()]
        self._span = _tracer.start_span(name, attributes={"softstate.requests": requests}, links=links)
        self._scope = _current(self._span)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self._span.end()
        self._scope.__exit__(kind, error, trace)


class PublishSpan:
    """The span of a publish over HTTP, from when its request is taken until `end`, which must be called once.

    `traceparent` and `tracestate` are the request's headers, if it has them: they name the span's parent.
    """

    __slots__ = ("_span",)

    def __init__(self, traceparent: str | None, tracestate: str | None) -> None:
        parent = None
        if traceparent is not None:
            parent = extract({"traceparent": traceparent} | ({} if tracestate is None else {"tracestate": tracestate}))
        self._span = _tracer.start_span("publish", parent, SpanKind.SERVER)

    def run(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function, and have the store calls that it asks for, or a task that it starts, link to this."""
        with _current(self._span):
            call(*args, **kwargs)

    def end(self, topics: int | None, status: int | None) -> None:
        """End with the number of topics, None if it is not known, and the answer's status, None if there was none."""
        span = self._span
        if topics is not None:
            span.set_attribute("softstate.topics", topics)
        if status is None:
            span.set_status(Status(StatusCode.ERROR, "the connection ended ahead of the answer"))
        else:
            span.set_attribute("http.response.status_code", status)
            if status >= ERROR_STATUS_MIN:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


def _current(span: Span) -> AbstractContextManager[Span]:
    return use_span(span, record_exception=False, set_status_on_exception=False)
