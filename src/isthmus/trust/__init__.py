"""Who is who? Certificates, who may be issued which, and the certificate service.

Never here: authorization of requests between workloads. `x509` is the only user of the cryptography package.
"""
