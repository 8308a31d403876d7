"""Controllers: what a Kubernetes cluster does by itself. Each is a pure function from the objects to the next writes.

Never here: processes and addresses of Pods; the kubelet has them.
"""
