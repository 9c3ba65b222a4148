# Targets: `serve` (default; OpenVINO, no TensorFlow) and `full` (TensorFlow too: init, import, compile).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# behind a proxy of your own: --build-arg PIP_CERT=<its bundle>, mounted with --volume
ARG PIP_CERT=
WORKDIR /build
COPY requirements-build.lock requirements-serve.lock ./
RUN python3 -m venv tools && tools/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
RUN python3 -m venv --without-pip /opt/venv \
    && tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY deploy/ray deploy/ray
RUN tools/bin/python -m hatchling build -t wheel \
    && tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM build AS build-full
COPY requirements.lock ./
RUN tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r requirements.lock

FROM ${BASE} AS runtime
RUN useradd --system --uid 10001 --no-create-home heads && install -d -o heads /model_store
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RESNET_HEADS_HOST=0.0.0.0 \
    RESNET_HEADS_STORE_DIR=/model_store \
    RESNET_HEADS_CACHE_DIR=/tmp/resnet-heads
VOLUME /model_store
EXPOSE 8000
USER heads
WORKDIR /tmp
HEALTHCHECK --start-period=30s \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ.get(\"RESNET_HEADS_PORT\", 8000)}/healthz', timeout=3)"]
# exec form: SIGTERM reaches the server
ENTRYPOINT ["resnet-heads"]
CMD ["serve"]

FROM runtime AS full
COPY --from=build-full /opt/venv /opt/venv

FROM runtime AS serve
COPY --from=build /opt/venv /opt/venv
