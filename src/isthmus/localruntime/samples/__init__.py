"""Workloads to try a mesh with. Each is one file on the standard library (but for gRPC), started by its path, so that it costs little.

Never here: anything that a mesh needs.
"""
