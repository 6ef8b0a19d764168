"""The errors that a user reads as one line: wrong input, and files that are damaged."""

import re

LONGEST = 1000  # characters of a line
SHOWN = 300  # characters of a value in it


def one_line(text: str, longest: int = LONGEST) -> str:
    """Put a text on one line, cut it, and escape what cannot be printed as Python does.

    Examples
    --------
    >>> one_line("two\\nlines and \\x1b[2J")
    'two lines and \\\\x1b[2J'
    """
    letters = re.sub(r"[\r\n\t]", " ", text[: longest + 1])
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in letters)
    return shown if len(shown) <= longest else f"{shown[:longest]} …"


class Damaged(RuntimeError):
    """A file is missing or is not what was written."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class InputError(ValueError):
    """Wrong input: one line that names the field, the value and a remedy.

    Parameters
    ----------
    field
        What the user set: an option, a column, a file.
    value
        What it was set to.
    remedy
        What to give instead.

    Examples
    --------
    >>> print(InputError("n_tokens", 0, "give a whole number of at least 1"))
    n_tokens = 0: give a whole number of at least 1
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        text = one_line(str(value), SHOWN)
        shown = text if isinstance(value, (int, float)) else f"'{text}'"
        super().__init__(one_line(f"{one_line(field, SHOWN)} = {shown}: {remedy}"))
        self.field, self.value, self.remedy = field, value, remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.value, self.remedy)  # from another process
