# syntax=docker/dockerfile:1
# The agent as an image. Build it from the repository's root:
#   docker build -f infra/deploy/agent.Dockerfile -t commons-agent .
# Run it with its home on a volume, and with the GPUs where there are any:
#   docker run -v commons-agent:/var/lib/commons-agent -e COMMONS_AGENT_SERVER=https://... [--gpus all] commons-agent
# What it says of processors and memory is what the container sees; run it without limits of its own.
#
# Python packages are pinned by uv.lock with their hashes; pin the base image by digest when you publish
# (`docker buildx imagetools inspect python:3.11.14-slim-bookworm`).
FROM python:3.11.14-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/commons UV_PYTHON_DOWNLOADS=never
RUN python -m pip install --no-cache-dir uv==0.13.8
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --extra gpu --no-install-project
COPY contracts contracts
COPY events events
COPY infra infra
COPY projections projections
COPY services services
RUN uv sync --locked --no-dev --extra gpu --no-editable

FROM python:3.11.14-slim-bookworm
RUN groupadd --system --gid 10001 commons-agent \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/commons-agent --shell /usr/sbin/nologin commons-agent \
    && install -d -m 700 -o commons-agent -g commons-agent /var/lib/commons-agent
COPY --from=build /opt/commons /opt/commons
ENV PATH=/opt/commons/bin:$PATH COMMONS_AGENT_HOME=/var/lib/commons-agent PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=utility
USER 10001:10001
VOLUME /var/lib/commons-agent
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s CMD ["commons", "agent", "status", "--json"]
ENTRYPOINT ["commons", "agent"]
CMD ["run"]
