"""Simulated traffic: what an Envoy with a rendered configuration would do with a request, walked the way Envoy walks it.

It reads the document that `isthmus render` prints and `/debug/config_dump` serves, and nothing else: so it judges what is sent, not what was meant.
"""
