"""The options of `tsp run`: one for each field of `RunSpec`, with its name, type and default."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any

from typer import Option


def with_spec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of `RunSpec`, in place of its parameter ``spec``."""
    from tsp.training.spec import RunSpec

    options = []
    for item in fields(RunSpec):
        kind: Any = item.type
        option = Option(help=item.metadata["help"])
        if item.default is None:
            kind = kind | None
            text = f"{item.metadata['help']} (default: the protocol's)"
            option = Option(help=text, show_default=False)
        place, annotation = inspect.Parameter.KEYWORD_ONLY, Annotated[kind, option]
        options.append(
            inspect.Parameter(item.name, place, default=item.default, annotation=annotation)
        )

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        chosen = {option.name: values.pop(option.name) for option in options}
        command(spec=RunSpec(**chosen), **values)

    signature = inspect.signature(command)
    others = [item for name, item in signature.parameters.items() if name != "spec"]
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*options, *others]
    )
    wrapper.__annotations__ = {item.name: item.annotation for item in (*options, *others)}
    return wrapper
