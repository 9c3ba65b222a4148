"""How many digits numbers have in JSON: those that mean something."""

from typing import Annotated

from pydantic import PlainSerializer


def seven_digits(value: float) -> float:
    """The nearest number of seven significant digits, about as many as a float32 has."""
    return float(f"{value:.7g}")


def microseconds(ms: float) -> float:
    """Milliseconds to three decimals."""
    return round(ms, 3)


Number = Annotated[float, PlainSerializer(seven_digits, return_type=float, when_used="json")]
Milliseconds = Annotated[float, PlainSerializer(microseconds, return_type=float, when_used="json")]
