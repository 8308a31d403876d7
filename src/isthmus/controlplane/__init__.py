"""The control plane process: wiring, nothing else.

Never here: a decision that a pure package could take.
"""
