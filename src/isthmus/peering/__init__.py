"""What two meshes' control planes say to each other: one asks, the other tells what it exports to it, and tells news as long as both are there.

The core (`messages`, `session`) does no I/O. Who the other one is, and whether that may be believed, is not decided here.
"""
