"""Rounds numbers in JSON answers to their significant digits."""

from typing import Annotated

from pydantic import PlainSerializer


def seven_digits(value: float) -> float:
    """Rounds to seven significant digits, about the precision of a float32."""
    return float(f"{value:.7g}")


def microseconds(ms: float) -> float:
    """Rounds milliseconds to three decimals."""
    return round(ms, 3)


Number = Annotated[float, PlainSerializer(seven_digits, return_type=float, when_used="json")]
Milliseconds = Annotated[float, PlainSerializer(microseconds, return_type=float, when_used="json")]
