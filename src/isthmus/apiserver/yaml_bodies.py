"""YAML bodies, with a bound on what they become: by aliases a few lines can stand for more values than memory has (a "billion laughs")."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

NODES_MAX = 500_000
"""Values of a document with every alias written out; a body without aliases cannot have more at the size that is accepted."""

DEPTH_MAX = 200

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def decode(body: bytes) -> Any:
    """As JSON would give it: YAML has values that JSON has not, such as dates. Raises ValueError."""
    try:
        _check_depth(body)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    loader = _LOADER(body)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}, ()) > NODES_MAX:
            raise ValueError(f"its aliases stand for more than {NODES_MAX} values")
        return msgspec.json.decode(msgspec.json.encode(loader.construct_document(node)))
    except (yaml.YAMLError, RecursionError, TypeError, OverflowError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from None
    finally:
        loader.dispose()


def _check_depth(body: bytes) -> None:
    """Before the whole is read: the time that the reader takes grows with the square of the depth. Raises ValueError."""
    depth = 0
    for event in yaml.parse(body, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise ValueError(f"it is nested more than {DEPTH_MAX} deep")


def _size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many nodes it stands for, each alias counted as what it names. Raises ValueError for one that contains itself."""
    found = known.get(id(node))
    if found is not None:
        return found
    if id(node) in above:
        raise ValueError("an alias stands for something that contains it")
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_size(item, known, (*above, id(node))) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        size += sum(_size(part, known, (*above, id(node))) for pair in node.value for part in pair)
    known[id(node)] = size
    return size
