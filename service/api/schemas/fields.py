"""The parameters of requests, which may stand in the query, the form or the JSON body."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

MAX_OFFSETS = 64

TopK = Annotated[int | None, Field(ge=1, le=10_000, description="classes, likeliest first; default 5")]
Head = Annotated[str | None, Field(description="name of the head; default: `default_head`")]
Version = Annotated[
    int | None, Field(ge=1, description="a version that is loaded; default: the one that serves")
]
ONE_OR_MORE = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
Several = Annotated[list[str], ONE_OR_MORE]
OFFSET = r"^(-?[0-9]{1,3}),(-?[0-9]{1,3})$"
Offsets = Annotated[
    list[Annotated[str, WithJsonSchema({"type": "string", "pattern": OFFSET})]], ONE_OR_MORE
]


class Fields(BaseModel):
    """All of them are optional, and those of the query win."""

    model_config = ConfigDict(extra="forbid")


class PredictFields(Fields):
    head: Head = None
    version: Version = None
    top_k: TopK = None


class CompareFields(Fields):
    heads: str | None = Field(None, description="names, comma-separated; default: all that serve")
    top_k: TopK = None


class ExplainFields(Fields):
    head: Head = None
    version: Version = None
    label: str | None = Field(
        None,
        alias="class",
        coerce_numbers_to_str=True,
        description="a label, else an index; default: the likeliest class of each image",
    )
    format: Literal["json", "png"] | None = Field(
        None, description="png: the picture under its map; default json"
    )


class ShiftFields(Fields):
    head: Several | None = Field(None, min_length=1, description="names; default: all that serve")
    offset: Offsets | None = Field(
        None,
        min_length=1,
        max_length=MAX_OFFSETS,
        description="`right,down` in pixels of the head's input; default: a grid of 5 x 5, 8 apart",
    )
