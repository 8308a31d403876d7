"""What is a mesh? Frozen values and their invariants.

Never here: wire shapes, Envoy's words, I/O, clocks, configuration. Standard library only.
"""
