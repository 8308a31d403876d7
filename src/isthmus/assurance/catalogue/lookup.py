"""Every code by its id."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from isthmus.assurance.catalogue import gateways, mesh, objects, policies, routing, validation, workloads
from isthmus.assurance.catalogue.code import Code

# In the order in which the documentation lists them.
SUBJECTS: tuple[tuple[str, ModuleType], ...] = (
    ("One object by itself", validation),
    ("Objects", objects),
    ("Routes, hosts and services", routing),
    ("Gateways and webhooks", gateways),
    ("Workloads and injection", workloads),
    ("Policies", policies),
    ("The mesh: clusters, networks, trust", mesh),
)


def codes_of(module: ModuleType) -> list[Code]:
    """Those of one subject, by id."""
    return sorted((value for value in vars(module).values() if isinstance(value, Code)), key=lambda code: code.id)


def all_codes() -> Mapping[str, Code]:
    found: dict[str, Code] = {}
    for _, module in SUBJECTS:
        for code in codes_of(module):
            assert code.id not in found, f"{code.id} is given twice"
            found[code.id] = code
    return MappingProxyType(found)
