"""What shape do objects have on the wire? msgspec structs for the Kubernetes and Istio kinds that Isthmus reads or writes.

Never here: behaviour, defaults that depend on the mesh, I/O.
"""
