# syntax=docker/dockerfile:1
# Every role of Compute Commons as one image; the command says which. Build it from the repository's root:
#   docker build -f infra/deploy/commons.Dockerfile -t compute-commons:0.1.0 .
# Python packages are pinned by uv.lock with their hashes, the base by tag and digest.
FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/commons UV_PYTHON_DOWNLOADS=never
RUN python -m pip install --no-cache-dir uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-install-project
COPY contracts contracts
COPY events events
COPY infra infra
COPY projections projections
COPY services services
RUN uv sync --locked --no-dev --no-editable

FROM python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d
# What can install or build anything stays behind. The home and the folder of the keys are there, so that new volumes
# take over their owner and their mode.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore setuptools wheel pip \
    && groupadd --system --gid 10001 commons \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/commons --shell /usr/sbin/nologin commons \
    && install -d -m 700 -o commons -g commons /var/lib/commons /var/lib/commons/keys
COPY --from=build /opt/commons /opt/commons
ENV PATH=/opt/commons/bin:$PATH COMMONS_HOME=/var/lib/commons COMMONS_LISTEN=0.0.0.0:8700 COMMONS_LOG_FORMAT=json \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/commons
VOLUME /var/lib/commons
EXPOSE 8700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --start-interval=2s --retries=3 \
    CMD ["python", "-m", "infra.background", "ready"]
ENTRYPOINT ["commons"]
CMD ["up"]
