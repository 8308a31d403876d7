"""How do derived values stay current? Keyed collections and derivations that read through a recorded fetch.

Never here: any word of the mesh.
"""
