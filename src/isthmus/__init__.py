"""Isthmus: one service mesh over one or many clusters, networks and control planes, on unmodified Envoy."""

__version__ = "0.1.0"
