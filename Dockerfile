# syntax=docker/dockerfile:1
# The server for CPUs. Weights are not baked in: mount a volume on /data, or let the first start fetch them.
#
#   docker build -t ml-inference .
#   docker run -p 8080:8080 -v ml-data:/data -v ./ml-inference.toml:/etc/ml-inference.toml:ro ml-inference
ARG DEBIAN_CODENAME=bookworm
ARG DEBIAN_NUMBER=12

FROM rust:1.95.0-slim-${DEBIAN_CODENAME} AS rust
ARG CARGO_CHEF_VERSION=0.1.73
# The toolchain file of the repository asks for clippy and rustfmt too, which an image does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates pkg-config \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install --locked "cargo-chef@${CARGO_CHEF_VERSION}"
WORKDIR /build

FROM rust AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM rust AS build
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --package ml-inference --recipe-path recipe.json
COPY . .
# The repository is not in the image: `--build-arg ML_INFERENCE_COMMIT=$(git rev-parse HEAD)` says what is built.
ARG ML_INFERENCE_COMMIT=
RUN cargo build --release --locked --package ml-inference \
    && strip target/release/ml-inference \
    && install -d /root-of-image/data

# The C library, certificates and nothing else: no shell. Its user `nonroot` is 65532.
FROM gcr.io/distroless/cc-debian${DEBIAN_NUMBER}:nonroot
LABEL org.opencontainers.image.title="ml-inference" \
      org.opencontainers.image.description="Text-inference server: five models over REST and gRPC, on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/release/ml-inference /usr/local/bin/ml-inference
COPY model-cards /usr/local/share/ml-inference/model-cards
COPY --from=build --chown=65532:65532 /root-of-image/data /data
USER 65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Operations speak plain HTTP, so they are for this container alone. An orchestrator that probes and scrapes from outside sets
# ML_INFERENCE_OPS_LISTEN=0.0.0.0:9090 and keeps that port off other networks.
ENV ML_INFERENCE_CONFIG=/etc/ml-inference.toml \
    ML_INFERENCE_DATA_DIR=/data \
    ML_INFERENCE_CARDS_DIR=/usr/local/share/ml-inference/model-cards \
    ML_INFERENCE_LISTEN=0.0.0.0:8080 \
    ML_INFERENCE_OPS_LISTEN=127.0.0.1:9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/ml-inference"]
CMD ["serve"]
