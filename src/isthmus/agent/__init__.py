"""The agent process: identity, certificates over SDS, DNS proxy, bootstrap and readiness for the Envoys beside it.

Never here: what a proxy is configured to do.
"""
