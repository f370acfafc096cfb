# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/ingest
# The locked dependencies first: this layer stays when only the code changes.
COPY requirements.txt ./
RUN /opt/ingest/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN /opt/ingest/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/ingest --shell /usr/sbin/nologin ingest
COPY --from=build /opt/ingest /opt/ingest
ENV PATH=/opt/ingest/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INGEST_HOME=/var/lib/ingest \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json
USER ingest
WORKDIR /var/lib/ingest
VOLUME /var/lib/ingest
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
# Exec form: the service is process 1 and gets SIGTERM itself. Give it longer than SHUTDOWN_GRACE to drain.
ENTRYPOINT ["ingest"]
CMD ["serve"]
