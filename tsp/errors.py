"""The one error that means the user's input is wrong."""


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
        shown = value if isinstance(value, (int, float)) else f"'{value}'"
        super().__init__(f"{field} = {shown}: {remedy}".replace("\n", " "))
        self.field, self.value, self.remedy = field, value, remedy

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.value, self.remedy)  # from another process
