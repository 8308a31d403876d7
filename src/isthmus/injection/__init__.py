"""injection: does this Pod get a proxy beside its workload, and what is added to it?

Never here: asking an API server, or serving one. Values in, values out.
"""
