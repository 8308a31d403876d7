"""Who is who? Certificates, who may be issued which, and the certificate service.

Never here: authorization of requests between workloads. `x509`, `svid`, `spiffe_bundle` and `verification` alone use the cryptography package.
"""
