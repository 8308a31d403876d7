# The images of Isthmus: one for control planes, one for proxies (agent, Envoy, capture), which is also a gateway's.
#
#   docker build --target control-plane -t isthmus/control-plane:0.1.0 .
#   docker build --target proxy -t isthmus/proxy:0.1.0 .

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/isthmus
# Dependencies first, in the versions and with the hashes that everybody works with: they change less often than the source.
COPY requirements/runtime.lock requirements/runtime.lock
RUN /opt/isthmus/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/isthmus/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM build AS without-envoy
RUN rm "$(/opt/isthmus/bin/python -c 'from isthmus.agent.envoy_binary import envoy_path; print(envoy_path())')"

FROM python:3.11-slim AS base
RUN groupadd --gid 1337 isthmus && useradd --uid 1337 --gid 1337 --no-create-home --shell /usr/sbin/nologin isthmus
ENV PATH=/opt/isthmus/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["isthmus"]

FROM base AS control-plane
COPY --from=without-envoy /opt/isthmus /opt/isthmus
USER 1337:1337
CMD ["control-plane"]

FROM base AS proxy
# For `isthmus capture`, which runs as root in an init container; the proxy itself never does.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nftables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/isthmus /opt/isthmus
USER 1337:1337
CMD ["agent", "sidecar"]

FROM proxy AS gateway
CMD ["gateway"]
