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

    store_dir: Path = Field(Path("model_store"), description="the model store")
    cache_dir: Path | None = Field(
        None,
        description="compiled files, when the store is read-only; default: the user's cache folder",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    root_path: str = Field("", description="path prefix that a proxy in front strips")
    engine: Literal["auto", "openvino", "keras"] = Field(
        "auto", description="what runs the heads; auto: keras when a GPU is visible, else openvino"
    )
    threads: int = Field(0, ge=0, description="inference threads; 0: the CPU quota, else the cores")
    decode_threads: int = Field(0, ge=0, description="decoding threads; 0: half the inference threads")
    default_head: str = Field("gap", description="the head of a request that names none")
    pinned: Annotated[dict[str, int], NoDecode] = Field(
        {}, description="versions that serve instead of the newest: `gap=3,flatten=1`"
    )
    kept_versions: int = Field(
        2, ge=1, description="newest good versions of a head kept loaded, for `version=` and roll-back"
    )
    reload_poll_s: float = Field(
        10,
        ge=0,
        description="how often the store is looked at for new versions; 0: never, once it is loaded",
    )
    required_heads: Names = Field(
        (), description="heads that /readyz waits for; empty: any one is enough"
    )
    max_batch_size: int = Field(8, ge=1, le=64, description="images in one forward pass")
    max_queued_images: int = Field(
        64, ge=1, description="images that wait, above which a request is refused"
    )
    max_wait_s: float = Field(
        1.5, gt=0, description="predicted wait in the queue above which a request is refused"
    )
    max_jobs_per_request: int = Field(
        256, ge=1, description="most passes that one request may ask for: images x offsets x backbones"
    )
    max_bytes_in_flight: int = Field(
        256 * 2**20,
        ge=1,
        description="most bytes of bodies, of all requests, that are not pixels yet",
    )
    request_timeout_s: float = Field(10, gt=0, description="upper bound of a request's deadline")
    body_timeout_s: float = Field(20, gt=0, description="time for a request's body to arrive")
    listen_when_ready: bool = Field(
        False, description="refuse connections while heads load, for balancers without health checks"
    )
    drain_delay_s: float = Field(
        5, ge=0, description="after SIGTERM, how long requests are served while /readyz says no"
    )
    drain_timeout_s: float = Field(30, gt=0, description="after that, time to finish requests")
    keep_alive_s: int = Field(75, ge=1, description="how long an idle connection is kept open")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="most bytes of a request's body")
    max_image_pixels: int = Field(50_000_000, ge=1, description="most width x height of one image")
    max_images_per_request: int = Field(32, ge=1, description="most images in one request")
    api_keys: Names = Field((), description="keys that requests must carry; empty: none needed")
    admin_key: str = Field("", description="key that POST /benchmark needs; empty: any of api_keys")
    api_keys_file: Path | None = Field(
        None, description="a file of more api_keys, one a line, read again when it changes"
    )
    admin_key_file: Path | None = Field(
        None, description="a file of more admin keys, one a line, read again when it changes"
    )
    page: bool = Field(True, description="whether / serves the page")
    open_metrics: bool = Field(True, description="whether /metrics answers without a key")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="log lines for people (console), or a JSON object a line (json)"
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
