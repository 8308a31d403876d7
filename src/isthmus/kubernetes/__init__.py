"""How is an API server listed, watched and written? The watch's state machine, and a thin client; and HTTP for what Kubernetes asks of us.

Never here: what objects mean to the mesh (ingest); serving the API (apiserver).
"""
