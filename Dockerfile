# The ledger: one image for every process of it. Kafka and Postgres are elsewhere (docker-compose.yml).
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/ledger

# The dependencies first: they change less often than the code, and this layer is then kept.
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md ./
COPY alembic ./alembic
COPY apps ./apps
COPY consumers ./consumers
COPY ledger ./ledger
COPY producers ./producers
COPY projections ./projections
COPY service ./service
RUN pip install --no-deps --no-build-isolation . && rm -rf /opt/ledger/*

RUN useradd --system --create-home --home-dir /var/lib/ledger ledger
USER ledger
WORKDIR /var/lib/ledger
ENV LEDGER_HOME=/var/lib/ledger LEDGER_STACK=external LEDGER_HTTP_HOST=0.0.0.0 LEDGER_HTTP_PORT=8000
EXPOSE 8000

HEALTHCHECK --interval=30s --start-period=60s --start-interval=1s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["ledger"]
CMD ["run", "http"]
