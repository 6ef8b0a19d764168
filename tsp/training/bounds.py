"""Checks of a value that a user gives; each raises an `InputError` that names the field."""

import re
import sys
from collections.abc import Callable
from typing import Any

from tsp.errors import InputError

Check = Callable[[str, Any], None]
LARGEST = 2**63  # whole numbers of 64 bits are below it
RUN_NAME = re.compile(r"|[0-9a-f]{16}|#[0-9]{1,9}")


def choice(*allowed: str) -> Check:
    """Return a check for one of a few words."""

    def check(name: str, value: Any) -> None:
        if value not in allowed:
            raise InputError(name, value, f"choose one of {', '.join(allowed)}")

    return check


def whole(least: int) -> Check:
    """Return a check for a whole number of at least ``least``."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(name, value, f"give a whole number of at least {least}")
        if value >= LARGEST:
            raise InputError(name, value, "give a whole number below 2**63")

    return check


def number(*, positive: bool = False, most: float = sys.float_info.max) -> Check:
    """Return a check for a finite number of at least 0, or above 0 if ``positive``."""
    bounds = "above 0" if positive else "of at least 0"
    bounds += f" and at most {most:g}" if most < sys.float_info.max else ""

    def check(name: str, value: Any) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        inside = is_number and 0 <= value <= most  # 10**400 is no float; nan compares false
        if not inside or (positive and value == 0):
            raise InputError(name, value, f"give a finite number {bounds}")

    return check


def flag(name: str, value: Any) -> None:
    """Raise unless a value is true or false."""
    if not isinstance(value, bool):
        raise InputError(name, value, "give true or false")


def text(name: str, value: Any) -> None:
    """Raise unless a value is a name."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(name, value, "give a name")
    if "\0" in value or value != value.encode(errors="ignore").decode():
        raise InputError(name, value, "give a name in UTF-8, without NUL")


def run_name(name: str, value: Any) -> None:
    """Raise unless a value is a run's id, ``#K`` or empty."""
    if not isinstance(value, str) or not RUN_NAME.fullmatch(value):
        raise InputError(name, value, "give a run's id, or #K for the Standard run on problem K")
