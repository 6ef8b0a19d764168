"""The options of `tsp run`: one for each field of `RunSpec`, with its name, type and default."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Annotated, Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., Any])


def with_spec_options(command: F) -> F:
    """Give a command one option per field of `RunSpec`, with its type and default."""
    from tsp.training.spec import RunSpec

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "spec"]
    options = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=Annotated[
                item.type if item.default is not None else item.type | None,  # type: ignore[operator]
                typer.Option(help=_help(item), show_default=item.default is not None),
            ],
        )
        for item in fields(RunSpec)
    ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        chosen = {item.name: given.pop(item.name) for item in fields(RunSpec)}
        return command(spec=RunSpec(**chosen), **given)

    wrapper.__signature__ = inspect.Signature(options + own)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in options + own}
    return wrapper  # type: ignore[return-value]


def _help(item: Field[Any]) -> str:
    """Help text of a field, with its default where that depends on the protocol."""
    default = "  [default: the protocol's]" if item.metadata.get("of_protocol") else ""
    return f"{item.metadata['help']}{default}"
