"""Texts in which Envoy puts what it knows of a request: `%COMMAND%`, `%COMMAND(argument)%`, `%COMMAND(argument):LENGTH%`.

Headers that are set and lines of access logs are such texts; Envoy refuses what it cannot read, with everything around it.
"""

from __future__ import annotations

import json
import re

from isthmus.ingest.expressions import not_cel

ALONE = frozenset((
    "ACCESS_LOG_TYPE", "BYTES_RECEIVED", "BYTES_RETRANSMITTED", "BYTES_SENT", "CONNECTION_ID", "CONNECTION_TERMINATION_DETAILS",
    "CUSTOM_FLAGS", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_LOCAL_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT", "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED", "DOWNSTREAM_HEADER_BYTES_SENT", "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_CLOSE_REASON", "DOWNSTREAM_LOCAL_DNS_SAN", "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN", "DOWNSTREAM_LOCAL_OTHERNAME_SAN", "DOWNSTREAM_LOCAL_PORT", "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN", "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS", "DOWNSTREAM_PEER_DNS_SAN", "DOWNSTREAM_PEER_EMAIL_SAN", "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256", "DOWNSTREAM_PEER_IP_SAN", "DOWNSTREAM_PEER_ISSUER", "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_PEER_URI_SAN", "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_REMOTE_PORT", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION", "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "DOWNSTREAM_WIRE_BYTES_RECEIVED", "DOWNSTREAM_WIRE_BYTES_SENT",
    "DURATION", "FILTER_CHAIN_NAME", "GRPC_STATUS_NUMBER", "HOSTNAME", "LOCAL_REPLY_BODY", "PACKETS_RETRANSMITTED", "PROTOCOL",
    "REQUESTED_SERVER_NAME", "REQUEST_DURATION", "REQUEST_HEADERS_BYTES", "REQUEST_TX_DURATION", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES",
    "RESPONSE_TX_DURATION", "ROUNDTRIP_DURATION", "ROUTE_NAME", "SPAN_ID", "STREAM_ID", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT",
    "TRACE_ID", "UNIQUE_ID", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW", "UPSTREAM_CONNECTION_ID", "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE", "UPSTREAM_HEADER_BYTES_RECEIVED", "UPSTREAM_HEADER_BYTES_SENT", "UPSTREAM_HOST",
    "UPSTREAM_HOSTS_ATTEMPTED", "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_LOCAL_ADDRESS",
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_LOCAL_CLOSE_REASON", "UPSTREAM_LOCAL_DNS_SAN", "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_LOCAL_PORT", "UPSTREAM_LOCAL_URI_SAN", "UPSTREAM_PEER_CERT", "UPSTREAM_PEER_DNS_SAN", "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER", "UPSTREAM_PEER_SUBJECT", "UPSTREAM_PEER_URI_SAN", "UPSTREAM_PROTOCOL", "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_PORT", "UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_SESSION_ID", "UPSTREAM_TLS_VERSION", "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_WIRE_BYTES_SENT", "VIRTUAL_CLUSTER_NAME",
))  # fmt: skip
"""Commands without an argument."""

WITH_ARGUMENT = frozenset((
    "CEL", "CLUSTER_METADATA", "COALESCE", "COMMON_DURATION", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE", "METADATA",
    "QUERY_PARAM", "REQ", "RESP", "TRAILER", "UPSTREAM_FILTER_STATE", "UPSTREAM_METADATA",
))  # fmt: skip
EITHER = frozenset((
    "DOWNSTREAM_PEER_CERT_V_END", "DOWNSTREAM_PEER_CERT_V_START", "EMIT_TIME", "EMIT_TIME_LOCAL",
    "GRPC_STATUS", "PATH", "QUERY_PARAMS", "START_TIME", "START_TIME_LOCAL", "UPSTREAM_PEER_CERT_V_END", "UPSTREAM_PEER_CERT_V_START",
))  # fmt: skip
_CAN_BE_CUT = frozenset((
    "CEL", "COALESCE", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE", "METADATA", "PATH", "QUERY_PARAM", "QUERY_PARAMS", "REQ", "RESP",
    "TRAILER", "UPSTREAM_FILTER_STATE",
))  # fmt: skip
"""Commands that may say how long their text becomes at most."""
_COMMAND = re.compile(r"%([A-Z0-9_]+)(?:\(([^()\n]*(?:\([^()\n]*\)[^()\n]*)*)\))?(?::([0-9]+))?%")
_HEADER = r"(?::?[!#$%&'*+.^_`|~0-9A-Za-z-]*)"
_KEPT = re.compile(r"[^:]+(?::(?:PLAIN|TYPED|FIELD:.*)?)?", re.DOTALL)
_ARGUMENTS = {
    **dict.fromkeys(("REQ", "RESP", "TRAILER"), re.compile(rf"{_HEADER}(?:\?{_HEADER})?")),
    **dict.fromkeys(("FILTER_STATE", "UPSTREAM_FILTER_STATE"), _KEPT),
    "METADATA": re.compile(
        r"(?:DYNAMIC|CLUSTER|ROUTE|UPSTREAM_HOST|LISTENER|LISTENER_FILTER_CHAIN|VIRTUAL_HOST)(?::.*)?"
    ),
    "COMMON_DURATION": re.compile(r"[^:]*:[^:]*(?::(?:ms|us|ns))?"),
    "GRPC_STATUS": re.compile("(?:CAMEL_STRING|SNAKE_STRING|NUMBER)?"),
    "PATH": re.compile("(?:WQ|NQ)?(?::(?:ORIG|PATH|ORIG_OR_PATH)?)?"),
    "QUERY_PARAMS": re.compile("(?:ORIG|DECODED)?"),
}
"""What an argument looks like, where Envoy looks at it."""
_LENGTH_MAX = 2**63 - 1


def bad_format(text: str) -> str:
    """Why Envoy would refuse it; empty when it would not."""
    place = text.find("%")
    while place >= 0:
        command = _COMMAND.match(text, place)
        if text.startswith("%%", place):
            place += 2
        elif command and (why := _wrong(command[1], command[2], command[3])):
            return why
        elif command:
            place = command.end()
        else:
            return f"{text!r:.80} has a % that starts no Envoy command; a plain one is written %%"
        place = text.find("%", place)
    return ""


def _wrong(command: str, argument: str | None, length: str | None) -> str:
    """Why it is no command with this argument, cut at this length."""
    if command not in ALONE | WITH_ARGUMENT | EITHER:
        return f"there is no command {command}"
    if length and (command not in _CAN_BE_CUT or int(length[:20]) > _LENGTH_MAX):
        return f"{command} cannot be cut at {length[:20]}"
    if command in ALONE:
        return f"{command} has no argument" if argument is not None else ""
    if command in WITH_ARGUMENT and not argument:
        return f"{command} needs an argument"
    if command == "CEL":
        why = not_cel(argument or "")
        return f"{argument!r:.60} is no expression: {why}" if why else ""
    if command == "COALESCE":
        return _wrong_choice(argument or "")
    form = _ARGUMENTS.get(command)
    return f"{argument!r:.60} is no argument of {command}" if form and not form.fullmatch(argument or "") else ""


def _wrong_choice(argument: str) -> str:
    """Of COALESCE: a list of commands in JSON, of which the first counts that says something."""
    try:
        said = json.loads(argument)
    except (ValueError, RecursionError):
        return f"COALESCE has {argument!r:.60}, which is no JSON"
    operators = said.get("operators") if isinstance(said, dict) else None
    if not isinstance(operators, list) or not operators:
        return "COALESCE needs a list of operators"
    for each in operators:
        one = {"command": each} if isinstance(each, str) else each
        if not isinstance(one, dict) or not isinstance(one.get("command"), str):
            return "an operator of COALESCE is a command, or an object with one"
        param, length = one.get("param"), one.get("max_length")
        if not isinstance(param, str | None) or (length is not None and (type(length) is not int or length <= 0)):
            return "an operator of COALESCE has a text as param, and a max_length above 0"
        if why := _wrong(one["command"], param, None if length is None else str(length)):
            return f"COALESCE: {why}"
    return ""
