"""A Kubernetes-compatible API server, embedded: storage, semantics, HTTP.

Never here: anything the mesh means; running Pods (localruntime).
"""
