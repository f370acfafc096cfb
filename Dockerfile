# syntax=docker/dockerfile:1
# `scripts/image-steps FOLDER` does what is written here without Docker; the tests start the service from there.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
# No password, no shell; a line of its own, because PostgreSQL's initdb wants a name for the user it runs as.
RUN mkdir -p /var/lib/ingest && echo 'ingest:x:10001:10001::/var/lib/ingest:/usr/sbin/nologin' >>/etc/passwd
RUN python -m venv /opt/ingest
# The locked dependencies first: this layer stays when only the code changes.
COPY requirements.txt ./
RUN /opt/ingest/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN /opt/ingest/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11.14-slim-bookworm
COPY --from=build /etc/passwd /etc/passwd
COPY --from=build /opt/ingest /opt/ingest
COPY --from=build --chown=10001:10001 /var/lib/ingest /var/lib/ingest
ENV PATH=/opt/ingest/bin:$PATH \
    HOME=/var/lib/ingest \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    INGEST_HOME=/var/lib/ingest \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/ingest
# All that is ever written, beside /tmp: the root may be read-only.
VOLUME /var/lib/ingest
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
# Exec form: the service is process 1 and gets the signal itself. Give it longer than SHUTDOWN_GRACE to drain.
STOPSIGNAL SIGTERM
ENTRYPOINT ["ingest"]
CMD ["serve"]
