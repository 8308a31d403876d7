"""The default formats of access logs: the fields of Istio's, in its order, so that what reads one mesh's logs reads the other's."""

from __future__ import annotations

_REQUEST = (
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
)
_OUTCOME = (
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
)
_FAILURE = ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%")
_AMOUNTS = (
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
)
_QUOTED = (
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
)
_WAY = (
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
)

DEFAULT_FIELDS = (("start_time", "%START_TIME%"), *_REQUEST, *_OUTCOME, _FAILURE, *_AMOUNTS, *_QUOTED, *_WAY)


def _words(fields: tuple[tuple[str, str], ...], quote: str = "") -> str:
    return " ".join(f"{quote}{value}{quote}" for _, value in fields)


DEFAULT_TEXT = " ".join(
    (
        "[%START_TIME%]",
        f'"{_words(_REQUEST)}"',
        _words(_OUTCOME),
        f'"{_FAILURE[1]}"',
        _words(_AMOUNTS),
        _words(_QUOTED, '"'),
        _words(_WAY) + "\n",
    )
)
