"""What goes along with an HTTP route: retries, timeouts, faults, CORS."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.route_parts import HEADER_NAME
from isthmus.assurance.validation.shapes import nanoseconds
from isthmus.assurance.validation.terms import Object, regex

# Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on.
_RETRY_ON = {
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
    "refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "cancelled",
    "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}  # fmt: skip
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
# The names of gRPC's status codes (grpc/grpc doc/statuscodes.md), and their numbers.
_GRPC = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED", *map(str, range(17)),
}  # fmt: skip
_SECOND = 10**9


def extras(route: Object, path: str) -> Iterator[Problem]:
    yield from _retries(route.get("retries") or {}, f"{path}.retries", route.get("timeout"))
    if route.get("fault") is not None:
        yield from _fault(route["fault"], f"{path}.fault")
    yield from _cors(route.get("corsPolicy") or {}, f"{path}.corsPolicy")


def _retries(retries: Object, path: str, timeout: str | None) -> Iterator[Problem]:
    attempts = retries.get("attempts", 0)
    if attempts < 0:
        yield Problem(codes.OUT_OF_BOUNDS, f"{path}.attempts", "must not be negative")
    settings = [key for key in ("perTryTimeout", "retryOn", "retryRemoteLocalities") if retries.get(key) is not None]
    if retries.get("attempts") == 0 and settings:
        yield Problem(
            codes.CONTRADICTION,
            path,
            f"has {', '.join(settings)}, but no attempts",
            "set attempts, or leave the other settings out",
        )
    for word in (retries.get("retryOn") or "").split(","):
        given = word.strip()
        if given.isdecimal() and not 100 <= int(given) <= 599:
            yield Problem(codes.BAD_STATUS, f"{path}.retryOn", f"{given} is not an HTTP status")
        elif given and not given.isdecimal() and given not in _RETRY_ON:
            yield Problem(
                codes.UNKNOWN_VALUE, f"{path}.retryOn", f"{given!r} is neither a status nor one of Envoy's conditions"
            )
    each, whole = nanoseconds(retries.get("perTryTimeout")), nanoseconds(timeout)
    if each and whole and each > whole:
        yield Problem(
            codes.HAS_NO_EFFECT,
            f"{path}.perTryTimeout",
            f"{retries['perTryTimeout']} is longer than the route's timeout, {timeout}: no try is repeated in time",
        )


def _fault(fault: Object, path: str) -> Iterator[Problem]:
    delay, abort = fault.get("delay"), fault.get("abort")
    if not delay and not abort:
        yield Problem(codes.SAYS_NOTHING, path, "needs delay or abort")
    if delay is not None and nanoseconds(delay.get("fixedDelay")) is None:
        yield Problem(codes.MISSING, f"{path}.delay.fixedDelay", "is required")
    if delay is not None and delay.get("percent") is not None:
        yield Problem(codes.OUTDATED, f"{path}.delay.percent", "percent is outdated", "use percentage.value")
    if abort is not None:
        if not set(abort) & {"httpStatus", "grpcStatus", "http2Error"}:
            yield Problem(codes.MISSING, f"{path}.abort", "needs httpStatus or grpcStatus")
        if abort.get("grpcStatus") and abort["grpcStatus"] not in _GRPC:
            yield Problem(codes.BAD_STATUS, f"{path}.abort.grpcStatus", f"{abort['grpcStatus']!r} is not a gRPC status")


def _cors(cors: Object, path: str) -> Iterator[Problem]:
    for index, origin in enumerate(cors.get("allowOrigins") or []):
        where = f"{path}.allowOrigins[{index}]"
        if not any(origin.values()):
            yield Problem(codes.SAYS_NOTHING, where, "an origin must not be empty")
        elif "regex" in origin:
            yield from regex(origin["regex"], f"{where}.regex")
    for index, method in enumerate(cors.get("allowMethods") or []):
        if method not in _METHODS:
            yield Problem(codes.UNKNOWN_VALUE, f"{path}.allowMethods[{index}]", f"{method!r} is not an HTTP method")
    for group in ("allowHeaders", "exposeHeaders"):
        for index, name in enumerate(cors.get(group) or []):
            if not HEADER_NAME.fullmatch(name):
                yield Problem(codes.BAD_HEADER, f"{path}.{group}[{index}]", f"{name!r} is not a header name")
    age = nanoseconds(cors.get("maxAge"))
    if age is not None and age % _SECOND:
        yield Problem(
            codes.NOT_A_DURATION, f"{path}.maxAge", f"{cors['maxAge']}: browsers count in seconds", "use whole seconds"
        )
    origins = cors.get("allowOrigins") or []
    everyone = any(origin.get("exact") == "*" or origin.get("regex") in (".*", "^.*$") for origin in origins)
    if cors.get("allowCredentials") and everyone:
        yield Problem(
            codes.RISKY,
            f"{path}.allowCredentials",
            "any page may call with its visitor's credentials",
            "name the origins",
        )
