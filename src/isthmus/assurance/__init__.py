"""Is it right, why, and what if? Pure questions over snapshots and views.

Never here: a second implementation of what discovery computes; I/O.
"""
