"""All settings, with defaults and descriptions. Only the command line and app.py read them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Set each as an environment variable `RESNET_HEADS_<NAME>`, or as a flag of `serve`.

    Lists are comma-separated. Keys are read from the environment only: flags show in process lists.
    """

    model_config = SettingsConfigDict(env_prefix="RESNET_HEADS_", frozen=True, extra="forbid")

    store_dir: Path = Field(Path("model_store"), description="The folder of the model store.")
    cache_dir: Path | None = Field(
        None,
        description="The folder for compiled files if the store is read-only; by default one in "
        "the user's cache folder.",
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    root_path: str = Field(
        "", description="The path prefix that a proxy in front of the server removes."
    )
    engine: Literal["auto", "openvino", "keras"] = Field(
        "auto",
        description="The engine that runs heads; `auto` is keras if a GPU is visible, else openvino.",
    )
    threads: int = Field(
        0,
        ge=0,
        description="The number of inference threads; 0 takes the CPU quota, else the number of cores.",
    )
    decode_threads: int = Field(
        0,
        ge=0,
        description="The number of decoding threads; 0 takes half the number of inference threads.",
    )
    default_head: str = Field("gap", description="The head that answers a request that names none.")
    pinned: Annotated[dict[str, int], NoDecode] = Field(
        {}, description="The versions that serve instead of the newest, as in `gap=3,flatten=1`."
    )
    kept_versions: int = Field(
        2,
        ge=1,
        description="The number of newest good versions of each head that stay loaded, for `version=` "
        "and roll-back.",
    )
    reload_poll_s: float = Field(
        10,
        ge=0,
        description="The seconds between two looks for new versions in the store; 0 looks only "
        "at the start.",
    )
    required_heads: Names = Field(
        (),
        description="The heads that must serve for /readyz to answer 200; if empty, any one is enough.",
    )
    max_batch_size: int = Field(
        8, ge=1, le=64, description="The largest number of images in one forward pass."
    )
    max_queued_images: int = Field(
        64, ge=1, description="The number of waiting images at which further requests are refused."
    )
    max_wait_s: float = Field(
        1.5,
        gt=0,
        description="The predicted wait in the queue, in seconds, above which a request is refused.",
    )
    max_jobs_per_request: int = Field(
        256,
        ge=1,
        description="The most passes (images x offsets x backbones) that one request may ask for.",
    )
    max_bytes_in_flight: int = Field(
        256 * 2**20,
        ge=1,
        description="The most bytes of the bodies of all requests that are not decoded to pixels yet.",
    )
    request_timeout_s: float = Field(
        10,
        gt=0,
        description="The longest deadline of a request, in seconds; a client may ask for a shorter one.",
    )
    body_timeout_s: float = Field(
        20, gt=0, description="The longest time for the body of a request to arrive, in seconds."
    )
    listen_when_ready: bool = Field(
        False,
        description="Whether to refuse connections while heads load, for load balancers without "
        "health checks.",
    )
    drain_delay_s: float = Field(
        5,
        ge=0,
        description="The seconds after SIGTERM in which requests are served and /readyz answers 503.",
    )
    drain_timeout_s: float = Field(
        30, gt=0, description="The seconds after `drain_delay_s` in which running requests may finish."
    )
    keep_alive_s: int = Field(
        75, ge=1, description="The seconds for which an idle connection is kept open."
    )
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="The largest body of a request, in bytes.")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="The largest number of pixels (width x height) of one image."
    )
    max_images_per_request: int = Field(32, ge=1, description="The most images in one request.")
    api_keys: Names = Field(
        (), description="The API keys, of which a request must carry one; if empty, no key is needed."
    )
    admin_key: str = Field(
        "", description="The key that POST /benchmark needs; if empty, any of `api_keys` will do."
    )
    api_keys_file: Path | None = Field(
        None,
        description="A file with more `api_keys`, one on each line; it is read again when it changes.",
    )
    admin_key_file: Path | None = Field(
        None,
        description="A file with more admin keys, one on each line; it is read again when it changes.",
    )
    page: bool = Field(True, description="Whether / serves the web page.")
    open_metrics: bool = Field(True, description="Whether /metrics answers without a key.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level that is logged."
    )
    log_format: Literal["console", "json"] = Field(
        "console",
        description="The format of log lines: `console` for people, `json` for one JSON object a line.",
    )

    @field_validator(
        *("host", "default_head", "store_dir", "cache_dir", "api_keys_file", "admin_key_file"),
        mode="before",
    )
    @classmethod
    def refuse_empty(cls, value: object) -> object:
        """Refuses an empty text, as of an unset shell variable: a path would be the current folder."""
        if value == "":
            raise ValueError("it is empty")
        return value

    @field_validator("pinned", mode="before")
    @classmethod
    def split_pairs(cls, value: object) -> object:
        """Parses `"a=1, b=2"` to `{"a": "1", "b": "2"}`; leaves anything else to pydantic."""
        if isinstance(value, str):
            pairs = (pair.partition("=") for pair in value.split(",") if pair.strip())
            return {head.strip(): version.strip() for head, _, version in pairs}
        return value

    @field_validator("required_heads", "api_keys", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        """Parses `"a, b"` to `("a", "b")`; leaves anything else to pydantic."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
