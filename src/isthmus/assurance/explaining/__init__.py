"""Why a proxy does what it does, and why not something else. The values are the ones that its configuration was made from; nothing is computed
a second time in another way.
"""
