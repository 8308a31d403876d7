"""How other implementations of SPIFFE Federation and ours get on: each fetches the other's bundle, with both profiles. See docs/trust.md."""
