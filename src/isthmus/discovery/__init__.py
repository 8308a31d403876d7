"""What may this proxy know? Sameness, visibility, reachability, balancing and naming, composed into a View.

Never here: wire shapes, protobufs, I/O. `reachability` is the only place where an endpoint is left out.
"""
