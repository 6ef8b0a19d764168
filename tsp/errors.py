"""The errors that a user is told in one line: wrong input, and files that are damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a line
SHOWN = 300  # of a value in it


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text on one line and not too long; what cannot be printed is written as Python would.

    Examples
    --------
    >>> one_line("two\\nlines and \\x1b[2J")
    'two lines and \\\\x1b[2J'
    """
    shown = "".join(_printable(letter) for letter in text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[:longest]} …"


def _printable(letter: str) -> str:
    if letter in "\r\n\t":
        return " "
    return letter if letter.isprintable() else ascii(letter)[1:-1]


@contextmanager
def panics_told() -> Iterator[None]:
    """Make an error of the panic of a library in Rust, which is no `Exception`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a module that cannot be imported
            raise
        raise RuntimeError(str(error)) from error


class Damaged(RuntimeError):
    """A file is missing or is not what was written."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class InputError(ValueError):
    """Wrong input: one line that names the field, the value and what would do.

    Parameters
    ----------
    field
        What the user set: an option, a column, a file.
    value
        What it was set to.
    remedy
        What would do instead.

    Examples
    --------
    >>> print(InputError("n_tokens", 0, "give a whole number of at least 1"))
    n_tokens = 0: give a whole number of at least 1
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = _shown(value) if isinstance(value, (int, float)) else f"'{_shown(value)}'"
        super().__init__(one_line(f"{one_line(field, SHOWN)} = {shown}: {remedy}"))
        self.field, self.value, self.remedy = field, value, remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.value, self.remedy)  # from another process


def _shown(value: object) -> str:
    try:
        return one_line(str(value), SHOWN)
    except (RecursionError, ValueError):  # nested too deeply, a number of 5,000 digits
        return f"{type(value).__name__} too large to show"
