#!/usr/bin/env bash
# Builds the release binary for NVIDIA GPUs and leaves a copy at bin/maitred-cuda; needs no GPU and no installed CUDA.
#
# The compiler comes from its maker's Python packages (scripts/cuda.txt, 0.8 GB unpacked; fetching them accepts
# NVIDIA's licence). The target folder is an own one, so that the build for the CPU stays as it is: the kernels take
# an hour of processor time. The binary finds cuBLAS in the cache; to run it elsewhere, carry the two libcublas*.so along
# and name their folder in LD_LIBRARY_PATH.
#
#   CUDA_ARCH=90      the GPUs to build for, by compute capability: 89 for L4 and L40S, 90 for H100; several as "89;90"
#   CUDA_PATH=FOLDER  use this CUDA instead; it must hold the static libraries, as the installers of CUDA bring them
set -euo pipefail
source "$(dirname "$0")/env.sh"

requirements=scripts/cuda.txt
cuda_home=$cache_home/cuda
cuda_root=${CUDA_PATH:-$cuda_home/nvidia/cu13}

fetch_cuda() {
    [[ -z ${CUDA_PATH:-} ]] || return 0
    cmp -s "$requirements" "$cuda_home/installed.txt" && return
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "scripts/cuda.txt is for Linux on x86-64; elsewhere install CUDA and name its folder in CUDA_PATH"
    say "fetching the CUDA compiler and libraries"
    rm -rf -- "$cuda_home"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip --disable-pip-version-check --quiet install --no-deps --no-compile --only-binary=:all: \
        --require-hashes --target "$cuda_home" --requirement "$requirements" >&2
    # Last, so that an interrupted installation is made again.
    cp "$requirements" "$cuda_home/installed.txt"
}

# The packages hold `lib` with versioned names; compilers and linkers look for `lib64` and plain ones.
link_libraries() {
    local library plain
    [[ -e $cuda_root/lib64 ]] || ln -s lib "$cuda_root/lib64"
    for library in "$cuda_root"/lib/lib*.so.*; do
        plain=${library%%.so.*}.so
        [[ -e $plain ]] || ln -s "$(basename "$library")" "$plain"
    done
}

# A build of llama.cpp without shared libraries links cuBLAS statically, and the packages have it only as a shared
# library. Empty archives satisfy the former; the latter is named to the linker in `build`.
make_empty_archives() {
    local archive
    for archive in "$cuda_root"/lib/lib{cublas,cublasLt}_static.a; do
        [[ -e $archive ]] || ar rcs "$archive"
    done
}

# A compiler that cannot compile shall say so now and not after the half of llama.cpp.
try_compiler() {
    local folder status=0
    folder=$(mktemp -d)
    printf '%s\n' '#include <cublas_v2.h>' '__global__ void touch(int *p) { *p = 1; }' \
        'int main() { cublasHandle_t h; touch<<<1, 1>>>(nullptr); return cublasCreate(&h) == 99; }' >"$folder/try.cu"
    "$cuda_root/bin/nvcc" -arch="sm_${architectures%%[-;]*}" -L "$cuda_root/lib64" -o "$folder/try" "$folder/try.cu" -lcublas >&2 ||
        status=$?
    rm -rf -- "$folder"
    ((status == 0)) || die "nvcc cannot build a program; its messages stand above"
}

build() {
    local link_arguments=()
    if [[ -z ${CUDA_PATH:-} ]]; then
        link_arguments=(-C link-arg=-lcublas -C link-arg=-lcublasLt -C "link-arg=-Wl,-rpath,$cuda_root/lib")
    fi
    # CUDA_PATH and CUDACXX are for CMake, CUDA_LIBRARY_PATH is for the crate that links.
    CUDA_PATH=$cuda_root CUDACXX=$cuda_root/bin/nvcc CUDA_LIBRARY_PATH=$cuda_root \
        CMAKE_CUDA_ARCHITECTURES=$architectures \
        cargo rustc --release --locked --bin maitred --features cuda -- "${link_arguments[@]}"
}

architectures=${CUDA_ARCH:-90}
export CARGO_TARGET_DIR=$cache_home/target-cuda

fetch_cuda
if [[ -z ${CUDA_PATH:-} ]]; then
    link_libraries
    make_empty_archives
fi
try_compiler
build
mkdir -p bin
install -m 755 "$CARGO_TARGET_DIR/release/maitred" bin/maitred-cuda
