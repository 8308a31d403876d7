"""A whole mesh on one machine: clusters, networks and workloads as processes in network namespaces.

Never here: what a production mesh would need too.
"""
