"""EnvoyFilter patches on compiled configuration: what they say, where they hold, how they are merged. Never what they are for.

A patch that cannot be applied changes nothing, and nothing else is lost with it; `values.problems` tells of those whose value is no such message.
"""
