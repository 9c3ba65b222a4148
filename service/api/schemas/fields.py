"""The parameters of requests, which may stand in the query, the form or the JSON body."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

MAX_OFFSETS = 64

TopK = Annotated[
    int | None,
    Field(ge=1, le=10_000, description="How many classes to return, the likeliest first; 5 by default."),
]
Head = Annotated[
    str | None, Field(description="The name of the head; the setting `default_head` by default.")
]
Version = Annotated[
    int | None, Field(ge=1, description="A loaded version of the head; the one that serves by default.")
]
ONE_OR_MORE = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
Several = Annotated[list[str], ONE_OR_MORE]
OFFSET = r"^(-?[0-9]{1,3}),(-?[0-9]{1,3})$"
Offsets = Annotated[
    list[Annotated[str, WithJsonSchema({"type": "string", "pattern": OFFSET})]], ONE_OR_MORE
]


class Fields(BaseModel):
    """The parameters of a request. All are optional, and the query overrides the body."""

    model_config = ConfigDict(extra="forbid")


class PredictFields(Fields):
    head: Head = None
    version: Version = None
    top_k: TopK = None


class CompareFields(Fields):
    heads: str | None = Field(
        None, description="The names of heads, comma-separated; all that serve by default."
    )
    top_k: TopK = None


class ExplainFields(Fields):
    head: Head = None
    version: Version = None
    label: str | None = Field(
        None,
        alias="class",
        coerce_numbers_to_str=True,
        description="The class, by label or else by index; the likeliest of each image by default.",
    )
    format: Literal["json", "png"] | None = Field(
        None, description="`json`, the default, or `png` for a drawing of one picture under its map."
    )


class ShiftFields(Fields):
    head: Several | None = Field(
        None, min_length=1, description="The names of heads; all that serve by default."
    )
    offset: Offsets | None = Field(
        None,
        min_length=1,
        max_length=MAX_OFFSETS,
        description="Moves `right,down` in pixels of the input; a 5 x 5 grid, 8 apart, by default.",
    )
