"""Models inside a configuration: which they are, and how they call their layers. Data only, no Keras."""

from collections.abc import Callable, Iterator

from service.lab.models.saved import Json, Saved, Unloadable

MAX_NESTED_MODELS = 8
MAX_CALLS = 10_000  # The largest networks of keras.applications make about 1000.
GRAPH_KEYS = ("layers", "input_layers", "output_layers")
STACK_KEYS = {"name", "trainable", "dtype", "layers", "build_input_shape"}


def is_graph(saved: Saved) -> bool:
    """Whether this is a functional model, of whatever class."""
    config = saved.get("config")
    return (
        isinstance(config, dict)
        and isinstance(config.get("layers"), list)
        and all(isinstance(config.get(key), list | dict) for key in GRAPH_KEYS)
    )


def is_stack(saved: Saved) -> bool:
    """Whether this is a Sequential model, or one of a class made of it."""
    config = saved.get("config")
    if saved.get("class_name") == "Sequential":
        return True
    is_like_one = (
        isinstance(config, dict) and {"layers", "build_input_shape"} <= set(config) <= STACK_KEYS
    )
    return is_like_one and not str(saved.get("module")).startswith("keras")


def layers_of(saved: Saved) -> list[Saved]:
    """The layers of a model; before Keras 2.2.3 a Sequential one was a list of them."""
    config = saved["config"]
    layers: list[Saved] = config if isinstance(config, list) else config["layers"]
    return layers


def children(node: Json) -> list[Json]:
    """The elements of a list, or the values of a dict."""
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def check_calls(saved: Saved, level: int = 1) -> int:
    """The number of calls of layers that a model makes, those in nested models included.

    Raises Unloadable where they are more than any model makes: nested models that each call the next
    one twice double them at each level.
    """
    if not (is_graph(saved) or is_stack(saved)):
        return 1
    if level > MAX_NESTED_MODELS:
        raise Unloadable(f"models are nested in it more than {MAX_NESTED_MODELS} levels deep.")
    calls = sum(
        max(1, len(one.get("inbound_nodes", ()))) * check_calls(one, level + 1)
        for one in layers_of(saved)
    )
    if calls > MAX_CALLS:
        raise Unloadable(f"it calls more than {MAX_CALLS} layers.")
    return calls


def renumbered(layers: list[Saved], outputs: Json) -> tuple[list[Saved], Json]:
    """The layers and output references of a graph, with calls of nested models counted as Keras 3 does.

    In Keras 2 a nested model has been called once when it is made, so that its first call in the graph
    is number 1. In Keras 3 that is number 0, but 1 where it is an output of the graph and functional.
    """
    graphs = {one["name"]: one for one in layers if is_graph(one) or is_stack(one)}
    nodes = [one["inbound_nodes"] for one in layers]
    if not graphs or not any(isinstance(node, list) for one in nodes for node in one):
        return layers, outputs
    firsts: dict[str, int] = {}
    for name, at in references([nodes, outputs]):
        firsts[name] = min(at, firsts.get(name, at))

    def within(name: str, at: int) -> int:
        return at - firsts[name] if name in graphs else at

    def outside(name: str, at: int) -> int:
        return within(name, at) + (name in graphs and is_graph(graphs[name]))

    moved = [one | {"inbound_nodes": _moved(one["inbound_nodes"], within)} for one in layers]
    return moved, _moved(outputs, outside)


def references(node: Json) -> Iterator[tuple[str, int]]:
    """The layers, and the numbers of their calls, that nodes of Keras 2 refer to."""
    match node:
        case [str(name), int(at), int(), *rest]:
            yield name, at
            yield from references(rest)
        case _:
            for child in children(node):
                yield from references(child)


def _moved(node: Json, number: Callable[[str, int], int]) -> Json:
    match node:
        case [str(name), int(at), int(tensor), *rest]:
            return [name, number(name, at), tensor, *(_moved(one, number) for one in rest)]
        case list():
            return [_moved(one, number) for one in node]
        case dict():
            return {key: _moved(value, number) for key, value in node.items()}
    return node


def without_options(node: Json) -> Json:
    """A call with its tensors alone, without `mask`, `training` and the like."""
    match node:
        case {"args": args}:
            return {"args": args, "kwargs": {}}
        case [str(name), int(at), int(tensor), _]:
            return [name, at, tensor, {}]
        case list():
            return [without_options(one) for one in node]
    return node


def is_fed_by(layer: Saved, inputs: list[str]) -> bool:
    """Whether a call of the layer takes an input of the graph."""
    return any(name in inputs for name, _ in references(layer["inbound_nodes"]))
