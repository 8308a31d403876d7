"""The graph as a table and as a Mermaid drawing: what there is, what depends on what, what was computed and what was spared."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.incremental.graph import Graph


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node. `computed`, `patched` and `cut_off` count since the graph was made; `cells` and `failing` are of now."""

    name: str
    cells: int
    computed: int
    patched: int
    cut_off: int
    failing: int
    reads: tuple[str, ...]


def summaries(graph: Graph) -> list[NodeSummary]:
    """Every node, in the order in which the graph was built."""
    failing = [name for name, _ in graph.failures]
    return [
        NodeSummary(
            name=node.name,
            cells=len(node.cells),
            computed=node.computed,
            patched=node.patches,
            cut_off=node.cut_off,
            failing=failing.count(node.name),
            reads=tuple(sorted({read.node.name for cell in node.cells.values() for read in cell.reads})),
        )
        for node in graph.nodes.values()
    ]


def mermaid(graph: Graph) -> str:
    """A flow chart of which nodes read which, as far as their present cells do."""
    identifiers = {summary.name: f"n{position}" for position, summary in enumerate(summaries(graph))}
    boxes = [f'    {identifiers[node.name]}["{node.name} ({node.cells})"]' for node in summaries(graph)]
    arrows = [
        f"    {identifiers[read]} --> {identifiers[node.name]}" for node in summaries(graph) for read in node.reads
    ]
    return "\n".join(["flowchart LR", *boxes, *arrows])
