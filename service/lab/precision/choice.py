"""What `quantize` is asked to make of heads."""

from dataclasses import dataclass

from service.store.card import HeadWeights, Precision


@dataclass(frozen=True)
class Choice:
    """The precision of the backbone, and how the weights of the heads' own layers are kept."""

    precision: Precision
    head_weights: HeadWeights = "f32"

    def name_of(self, head: str) -> str:
        """The name of what is made of a head, such as `gap-bf16-w8`."""
        parts = (head, self.precision, "w8" if self.head_weights == "int8" else "f32")
        return "-".join(part for part in parts if part != "f32")
