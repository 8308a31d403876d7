"""A real Kubernetes API server on this machine: etcd, kube-apiserver and kube-controller-manager, built from the modules of their own projects.

What is held to laws here is not ours: none of its code is in this repository, only the three programs that call it (`programs/`).
"""
