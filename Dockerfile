# syntax=docker/dockerfile:1

# One image for server, agent, plugin and command line: `docker build -t registry.example/holdfast:0.1.0 .`
#
# To get the same image twice, name bases by digest (`SWIFT=swift:6.3.1-bookworm@sha256:…`, `DEBIAN=…`) and the moment whose
# Debian packages are meant (SNAPSHOT), and let BuildKit set the files' times: `--build-arg SOURCE_DATE_EPOCH=… --output
# type=image,rewrite-timestamp=true`. Swift packages are those of Package.resolved, which a build leaves in your checkout and git
# ignores: keep it. Without one they come by the version rules of Package.swift.
ARG SWIFT=swift:6.3.1-bookworm
ARG DEBIAN=debian:12-slim

FROM ${SWIFT} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG SNAPSHOT=
WORKDIR /src
RUN --mount=type=bind,source=scripts/image-packages,target=/image-packages \
    /image-packages make libgrpc-dev libprotobuf-c-dev libsqlite3-dev musl-dev
COPY . .
RUN make release \
    && make install DESTDIR=/image CNI_BIN=/usr/local/bin \
    && strip --strip-debug /image/usr/local/bin/* \
    && install -d /image/usr/lib/swift/linux /ledger \
    && scripts/swift-libraries /image/usr/local/bin/holdfast /image/usr/local/bin/holdfast-agent \
        /image/usr/local/bin/holdfast-server | xargs cp -L -t /image/usr/lib/swift/linux

FROM ${DEBIAN}
ARG SNAPSHOT=
RUN --mount=type=bind,source=scripts/image-packages,target=/image-packages \
    /image-packages libgrpc29 libprotobuf-c1 libsqlite3-0
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /ledger /var/lib/holdfast
# A library that is missing is found here, and not on the cluster.
RUN holdfast-server --help && holdfast-agent --help && holdfast --help
LABEL org.opencontainers.image.title="Holdfast" \
    org.opencontainers.image.description="Keeps the IP and MAC address of a KubeVirt VM fixed" \
    org.opencontainers.image.licenses="Apache-2.0"
# The server's user; the agent is told another one.
USER 65532:65532
EXPOSE 7440 9440
ENTRYPOINT ["/usr/local/bin/holdfast-server"]
