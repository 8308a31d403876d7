"""What Envoy configuration says so? From a View to encoded resources and bootstraps.

Never here: decisions about who may know or reach what. With `xds`, the only user of Envoy's protobufs.
"""
