#!/usr/bin/env python3
"""llama.cpp's own server, from the wheel `xllamacpp`, as a peer of the load test.

Runs the server in this process on a free port of the loopback, prints one line of JSON when it is ready, and ends
when its stdin is closed: so it cannot outlive the program that started it, however that ends.
"""

import argparse
import json
import os
import sys

import xllamacpp

FLASH_ATTENTION = {
    "auto": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
# Errors only: one line a request would cost the peer time that is not its own.
QUIET = 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--slots", type=int, required=True, help="requests at the same time")
    parser.add_argument("--context", type=int, required=True, help="cells of all slots together")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=2048, help="tokens of a step, llama.cpp's default if not given")
    parser.add_argument("--ubatch", type=int, default=512, help="tokens of a pass, llama.cpp's default if not given")
    parser.add_argument("--flash-attention", choices=sorted(FLASH_ATTENTION), default="auto")
    parser.add_argument("--unified", action="store_true", help="one pool of cells for all slots")
    parser.add_argument("--full-window", action="store_true", help="keep what sliding-window layers would forget")
    return parser.parse_args()


def parameters(given):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = given.model
    parameters.n_parallel = given.slots
    parameters.n_ctx = given.context
    parameters.n_batch = given.batch
    parameters.n_ubatch = given.ubatch
    parameters.cpuparams.n_threads = given.threads
    parameters.cpuparams_batch.n_threads = given.threads
    parameters.flash_attn_type = FLASH_ATTENTION[given.flash_attention]
    parameters.kv_unified = given.unified
    parameters.swa_full = given.full_window
    parameters.cont_batching = True
    parameters.cache_prompt = True
    # What was asked for, not what a guess about free memory makes of it.
    parameters.fit_params = False
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.ui = False
    parameters.verbosity = QUIET
    return parameters


def main():
    server = xllamacpp.Server(parameters(arguments()))
    ready = {"address": server.listening_address, "version": xllamacpp.__version__}
    print(json.dumps(ready), flush=True)
    sys.stdin.buffer.read()
    # Not by way of the server's own end, which waits for requests that nobody waits for any more.
    os._exit(0)


if __name__ == "__main__":
    main()
