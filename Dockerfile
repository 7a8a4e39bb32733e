# Peritus as one image for every service: `docker run peritus serve loop`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY domain domain
COPY eventlog eventlog
COPY commands commands
COPY projections projections
COPY services services
COPY gateway gateway
COPY peritus peritus
# All versions are pinned: the package's requirements by constraints.txt.
RUN python3 -m venv /opt/peritus \
 && /opt/peritus/bin/pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt '.[postgres]'

FROM ${BASE}
# A machine id that came with the image would be the same on every host, and workers tell by it
# whether another one ran on their machine. Without it the container's host name counts.
RUN rm -f /etc/machine-id /var/lib/dbus/machine-id \
 && groupadd --gid 10001 peritus \
 && useradd --uid 10001 --gid 10001 --home-dir /state --shell /usr/sbin/nologin peritus \
 && install -d -m 0700 -o peritus -g peritus /state /views /workspaces \
 && install -d -m 0755 /project
COPY --from=build /opt/peritus /opt/peritus
ENV PATH=/opt/peritus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PERITUS_STATE_DIR=/state
USER 10001:10001
WORKDIR /project
ENTRYPOINT ["peritus"]
CMD ["--help"]
