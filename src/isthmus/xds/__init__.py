"""How is configuration delivered? The stream's state machine (session), and thin servers around it.

Never here: what a resource contains.
"""
