"""installation: which objects does a real cluster need, to run its part of a mesh?

Never here: asking an API server. Settings in, objects out, always in the same order.
"""
