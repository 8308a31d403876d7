"""Gateway API: gateways and routes become the same values that Istio's Gateways and VirtualServices become.

Here is what the objects of gateway.networking.k8s.io say, and what their writers are told. Never here: who may see a route's services, and
what Envoy is given; both are the same as for Istio's objects.
"""
