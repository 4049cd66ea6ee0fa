# Three images from one file: docker build --target gateway|ingest|triton -t pixserve-<target> .
# Unverified: these have not been built or run yet.
#
# All three share one data folder, mounted at /data; `pixserve export` fills /data/models.

FROM python:3.11-slim AS base
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
RUN pip install --constraint constraints.txt .
RUN useradd --uid 10001 --create-home pixserve && install --directory --owner=pixserve /data
USER pixserve
WORKDIR /data
ENV PIXSERVE_DATA_DIR=/data
VOLUME /data

FROM base AS gateway
ENV PIXSERVE_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/live')"]
CMD ["python", "-m", "gateway.serve"]

FROM base AS ingest
CMD ["python", "-m", "ingest.worker"]

# The Python models need more shared memory than a container gets: run with --shm-size=1g.
FROM nvcr.io/nvidia/tritonserver:26.07-py3 AS triton
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
WORKDIR /app
COPY --from=base /app /app
RUN pip install --break-system-packages --constraint constraints.txt '.[models]'
COPY ensembles/backends/encoder/model.py /opt/tritonserver/backends/encoder/model.py
ENV PROFILE=large CONFIG=gpu
EXPOSE 8001 8002
VOLUME /data
CMD ["sh", "-c", "exec tritonserver --model-repository=/data/models/$PROFILE/repository \
    --model-config-name=$CONFIG --disable-auto-complete-config --allow-http=false \
    --grpc-restricted-protocol=shared-memory,model-repository,trace,logging:pixserve-admin=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n') \
    --exit-timeout-secs=10"]
