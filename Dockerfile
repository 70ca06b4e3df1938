# The program in an image: built by the scripts that build it anywhere, run by a user without rights.
#
#   docker build -t maitred:cpu .
#   docker build -t maitred:cuda --build-arg FEATURES=cuda \
#     --build-arg BUILD_BASE=nvidia/cuda:12.6.3-devel-ubuntu24.04 \
#     --build-arg RUN_BASE=nvidia/cuda:12.6.3-runtime-ubuntu24.04 .

ARG BUILD_BASE=debian:12.11-slim
ARG RUN_BASE=debian:12.11-slim

# Rust comes from its own image, so that the base can be one with a GPU's tools.
FROM rust:1.95.0-slim-bookworm AS rust

FROM ${BUILD_BASE} AS build
ARG FEATURES=""
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && \
    apt-get install --no-install-recommends --yes ca-certificates cmake g++ libclang-dev make python3-pip && \
    rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:${PATH}
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target FEATURES=${FEATURES} scripts/build.sh

FROM ${RUN_BASE}
ENV DEBIAN_FRONTEND=noninteractive
# pip fetches the models, curl asks for the health.
RUN apt-get update && \
    apt-get install --no-install-recommends --yes ca-certificates curl libgomp1 python3-pip && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --create-home maitred && \
    install -d -o maitred -g maitred /models
COPY --from=build /src/bin/maitred /usr/local/bin/maitred
ENV MAITRED_MODELS_DIR=/models
VOLUME /models
USER maitred
WORKDIR /home/maitred
ENTRYPOINT ["maitred"]
CMD ["worker"]
