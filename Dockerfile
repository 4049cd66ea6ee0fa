# Three images from one file: docker build --target gateway|ingest|triton -t pixserve-<target> .
# Unverified: these have not been built or run yet (docs/gpu.md).
#
# All three share one data folder, mounted at /data and writable for the user 10001;
# `pixserve export --target gpu` fills /data/models.

FROM python:3.11.13-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY deploy deploy
COPY ensembles ensembles
COPY export export
COPY gateway gateway
COPY ingest ingest
COPY loadtest loadtest
COPY model_repository model_repository
COPY training training
RUN pip install --constraint constraints.txt '.[postgres]'
RUN useradd --uid 10001 --create-home pixserve && install --directory --owner=pixserve /data
USER pixserve
WORKDIR /data
ENV PIXSERVE_DATA_DIR=/data
VOLUME /data

FROM base AS gateway
ENV PIXSERVE_HOST=0.0.0.0
# 8081 is the search over gRPC: served with -e PIXSERVE_RPC_PORT=8081 only (docs/rpc.md).
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/live')"]
CMD ["python", "-m", "gateway.serve"]

# The worker marks that it takes jobs by a file in its run folder; its jobs are leased, so a worker
# that hangs loses them by itself.
FROM base AS ingest
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["test", "-f", "/data/run/worker.ready"]
CMD ["python", "-m", "ingest.worker"]

# The Python models need more shared memory than a container gets: run with --gpus all --shm-size=1g.
# At the first start on a kind of GPU it builds the TensorRT plans, which takes minutes; later starts
# find them in /data/models/<profile>/plans.
FROM nvcr.io/nvidia/tritonserver:26.07-py3 AS triton
# TensorRT's Python package must be of the version of the image's library: plans load only there.
ARG TENSORRT_VERSION
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
WORKDIR /app
COPY --from=base /app /app
RUN pip install --break-system-packages --constraint constraints.txt '.[models]' \
    && { python3 -c 'import tensorrt' || pip install --break-system-packages \
         "tensorrt==${TENSORRT_VERSION:?the version of libnvinfer in this image}"; }
COPY ensembles/backends/encoder/model.py /opt/tritonserver/backends/encoder/model.py
RUN useradd --uid 10001 --create-home pixserve && install --directory --owner=pixserve /data
USER pixserve
WORKDIR /data
ENV PROFILE=large CONFIG=gpu
EXPOSE 8001 8002
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s --start-period=30m \
    CMD ["python3", "-c", "import grpc; grpc.channel_ready_future(grpc.insecure_channel('127.0.0.1:8001')).result(timeout=2)"]
CMD ["sh", "-ec", "\
    if [ \"$CONFIG\" = gpu ]; then \
        python3 -m ensembles.gpu_pipelines --data-dir /data --profile \"$PROFILE\"; \
        python3 -m export.tensorrt --data-dir /data --profile \"$PROFILE\"; \
    fi; \
    exec tritonserver --model-repository=\"/data/models/$PROFILE/repository\" \
        --model-config-name=\"$CONFIG\" --disable-auto-complete-config --allow-http=false \
        --grpc-restricted-protocol=shared-memory,model-repository,trace,logging:pixserve-admin=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n') \
        --exit-timeout-secs=10"]
