# docker buildx build --platform linux/amd64,linux/arm64 -t modelcache .
# Each platform compiles natively or emulated, so no cross linker is needed.
FROM rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=target-$TARGETARCH,sharing=locked \
    cargo build --release --locked && hack/rootfs target/release/modelcache /rootfs

# hack/image reads USER, ENV and ENTRYPOINT of this stage: keep one NAME=value on an ENV line and the JSON form of ENTRYPOINT.
FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
ENTRYPOINT ["/usr/local/bin/modelcache"]
