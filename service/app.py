"""The composition root: builds the application from its settings."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI
from fastapi.routing import iter_route_contexts

import service
from service.api import openapi, problems
from service.api.access import Keys, needs_key
from service.api.body import Limits
from service.api.context import Context
from service.api.edge import Edge
from service.api.gate import Gate
from service.api.metrics import Metrics, State
from service.api.protocols.v1 import routes as v1
from service.api.protocols.v2 import routes as v2
from service.api.routes import benchmark, explain, heads, operations, page, predict
from service.benchmark.bench import Bench
from service.serving.batcher import Batcher
from service.serving.capacity import Capacity
from service.serving.classifier import Classifier
from service.serving.engine_lock import EngineLock
from service.serving.engines import choose_engine, open_engine
from service.serving.heads import Heads
from service.serving.host import available_cores
from service.serving.loading import Loader
from service.serving.rebuild import compile_in_child
from service.serving.watch import Watch
from service.settings import Settings
from service.store.layout import Store, default_cache

LISTEN_POLL_S = 0.05


def create_app(
    settings: Settings,
    heads_: Heads | None = None,
    on_ready: Callable[[list[str]], None] = lambda _: None,
    stopping: threading.Event | None = None,
) -> FastAPI:
    """Builds the application of these settings, or one that serves the given heads.

    Heads load after start-up in a thread, so that the process answers /healthz meanwhile; the thread
    calls `on_ready` with their names. Once `stopping` is set, the service is not ready and loads
    nothing.
    """
    threads = settings.threads or available_cores()
    engine_lock = EngineLock()
    stopping = stopping or threading.Event()
    loaded = heads_ or Heads(
        open_store(settings),
        partial(_open_loader, settings, threads, engine_lock, stopping),
        kept_versions=settings.kept_versions,
        pinned=settings.pinned,
        stopping=stopping,
    )
    watch = Watch(loaded, on_ready, settings.reload_poll_s, stopping)
    decode_threads = settings.decode_threads or max(1, threads // 2)
    capacity = Capacity(
        settings.max_queued_images,
        settings.max_wait_s,
        settings.max_jobs_per_request,
        settings.max_bytes_in_flight,
    )
    metrics = Metrics(
        State(
            heads=loaded,
            capacity=capacity,
            is_ready=lambda: not context.missing(),
            request_timeout_s=settings.request_timeout_s,
        )
    )
    batcher = Batcher(capacity, metrics.observe_batch, engine_lock)
    classifier = Classifier(loaded, batcher, decode_threads, settings.max_image_pixels)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        # Builds all routes now; else the first request would wait for that.
        list(iter_route_contexts(app.routes))
        watch.start()
        if settings.listen_when_ready:  # The server listens once the lifespan has begun.
            while not (loaded.has_loaded() or stopping.is_set()):
                await asyncio.sleep(LISTEN_POLL_S)
        yield
        stopping.set()
        watch.join()
        classifier.close()

    app = FastAPI(
        title="resnet-heads",
        version=service.__version__,
        description="ResNet50 classifiers with a GAP and a Flatten head, served side by side.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.context = context = Context(
        classifier=classifier,
        metrics=metrics,
        bench=open_bench(settings, lambda: metrics.answered),
        limits=Limits(
            max_body_bytes=settings.max_body_bytes,
            body_timeout_s=settings.body_timeout_s,
            request_timeout_s=settings.request_timeout_s,
            max_images_per_request=settings.max_images_per_request,
        ),
        stopping=stopping,
        default_head=settings.default_head,
        required_heads=settings.required_heads,
        api_keys=Keys(settings.api_keys, settings.api_keys_file),
        admin_keys=Keys((settings.admin_key,) if settings.admin_key else (), settings.admin_key_file),
    )
    for topic in (predict, explain, heads, benchmark, operations, v1, v2):
        app.include_router(topic.router)
    app.include_router(v2.health)
    keys_for_metrics = [] if settings.open_metrics else [Depends(needs_key)]
    app.include_router(operations.metrics_router, dependencies=keys_for_metrics)
    if settings.page:
        app.include_router(page.router())
    problems.answer_errors(app)
    computing = (predict, explain, v1, v2)
    app.add_middleware(
        Gate, context=context, routes=[route for topic in computing for route in topic.router.routes]
    )
    app.add_middleware(Edge, metrics=metrics)
    openapi.describe(app)
    return app


def open_store(settings: Settings) -> Store:
    """The store of these settings."""
    return Store(settings.store_dir, settings.cache_dir or default_cache())


def open_bench(settings: Settings, answered: Callable[[], int] | None = None) -> Bench:
    """The Bench of these settings' store, which measures heads with as many threads as serving uses."""
    return Bench(open_store(settings), settings.threads or available_cores(), answered)


def _open_loader(
    settings: Settings, threads: int, engine_lock: EngineLock, stopping: threading.Event
) -> Loader:
    engine = open_engine(choose_engine(settings.engine, stopping), threads)
    rebuild = partial(compile_in_child, stopping=stopping)
    return Loader(open_store(settings), engine, settings.max_batch_size, rebuild, engine_lock)
