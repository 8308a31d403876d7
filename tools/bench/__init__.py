"""The benchmark of a control plane: thousands of simulated proxies, and the objects and changes that they are told about.

`make bench` runs it. It drives any control plane that speaks Istio's protocol, through a Kubernetes API server and its xDS port.
"""
