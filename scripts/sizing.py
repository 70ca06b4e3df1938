#!/usr/bin/env python3
"""Computes how many restaurants a GPU works in a second with a model of seven billion parameters, and what they cost.

Nothing here is measured on a GPU. Token counts are measured (docs/PERFORMANCE.md), GPUs are as their maker's data sheets
describe them, the rest are assumptions that can be changed; docs/SIZING.md explains each. Needs Python 3.11, nothing
else.

    scripts/sizing.py                                  the tables of docs/SIZING.md
    scripts/sizing.py --price H100=2.5 --use L4=0.2    with other assumptions
"""

import argparse
from dataclasses import dataclass, replace

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Model:
    """Qwen2.5-7B, from its published configuration; weights in Q8_0, 8.5 bits each."""

    parameters: float = 7.62e9
    bits: float = 8.5
    layers: int = 28
    heads: int = 28
    kv_heads: int = 4
    head: int = 128
    width: int = 3584
    feed_forward: int = 18944
    vocabulary: int = 152064

    @property
    def weights(self):
        """Bytes."""
        return self.parameters * self.bits / 8

    @property
    def cell(self):
        """Bytes of one KV cell: keys and values of two bytes."""
        return 2 * self.layers * self.kv_heads * self.head * 2

    def work(self, context):
        """Floating-point operations for one token that sees `context` others."""
        return 2 * self.parameters + 4 * self.layers * self.heads * self.head * context

    def compute_buffer(self, tokens, cells):
        """Bytes, as src/engine/fit.rs estimates them."""
        return tokens * (4 * (self.vocabulary + 2 * (self.width + self.feed_forward)) + 2 * cells)


@dataclass(frozen=True)
class Gpu:
    """Memory and bandwidth in bytes, dense FP16 peak in operations a second, the part of it that a prefill reaches,
    and dollars an hour."""

    name: str
    memory: float
    bandwidth: float
    peak: float
    use: float
    price: float


@dataclass(frozen=True)
class Load:
    """What one restaurant takes, in tokens."""

    name: str
    prompt: float
    sampled: float


GPUS = [
    Gpu("L4", 24e9, 300e9, 121e12, 0.30, 0.80),
    Gpu("L40S", 48e9, 864e9, 362e12, 0.30, 1.90),
    Gpu("H100", 80e9, 3350e9, 989e12, 0.15, 4.00),
]

# Over the same file of 50 restaurants: prompt tokens of the run, and claims asked for, of 59 / 6 sampled tokens each.
CLAIM = 59 / 6
LOADS = [
    Load("all reviews, read for the first time", 496_383 / 50, 413 / 50 * CLAIM),
    Load("20 selected reviews, for the first time", 139_092 / 50, 413 / 50 * CLAIM),
    Load("one new review, the rest known", 2_471 / 50, (457 - 427) / 50 * CLAIM),
]

# Memory that the driver keeps, the part of the bandwidth that decoding reaches, broker and stores for a job in seconds.
DRIVER, BANDWIDTH_USE, JOB = 0.05, 0.50, 0.004
RESERVE = 512 * MIB
# llama.cpp has 256 sequences, some are pinned.
MOST_SEQUENCES = 240


def permits(model, gpu, asked):
    """Sequences of so many cells that fit beside the weights."""
    fixed = model.weights + RESERVE + model.compute_buffer(asked.batch, asked.cells * MOST_SEQUENCES)
    room = gpu.memory * (1 - DRIVER) - fixed
    return max(0, min(MOST_SEQUENCES, int(room // (model.cell * asked.cells))))


def prefill_seconds(model, gpu, tokens, asked):
    """Limited by arithmetic: a batch of 512 tokens reads the weights once and computes for longer than that."""
    return tokens * model.work(asked.cells) / (gpu.peak * gpu.use)


def decode_seconds(model, gpu, tokens, sequences, asked):
    """Limited by reading the weights and the cells for each step, in which every sequence gets a token."""
    read = (model.weights + sequences * asked.cells * model.cell) / (gpu.bandwidth * BANDWIDTH_USE)
    compute = sequences * model.work(asked.cells) / (gpu.peak * gpu.use)
    return tokens / sequences * max(read, compute)


def row(model, gpu, load, asked):
    """Prefill, decode and whole seconds for a restaurant; restaurants a second; dollars for a thousand."""
    sequences = min(asked.sequences, permits(model, gpu, asked))
    if sequences == 0:
        raise SystemExit(f"error: the model does not fit on {gpu.name}")
    prefill = prefill_seconds(model, gpu, load.prompt, asked)
    decode = decode_seconds(model, gpu, load.sampled, sequences, asked)
    whole = prefill + decode + JOB
    return prefill, decode, whole, 1 / whole, gpu.price / 3600 * whole * 1000


def tables(model, gpus, asked):
    """Yields the lines of both tables."""
    yield f"weights {model.weights / 1e9:.2f} GB, {model.cell / KIB:.0f} KiB a cell"
    yield ""
    yield f"| GPU | memory | bandwidth | FP16 dense | used | prefill tokens/s | sequences of {asked.cells} cells | $/h |"
    yield "|---|---|---|---|---|---|---|---|"
    for gpu in gpus:
        speed = 1 / prefill_seconds(model, gpu, 1, asked)
        yield (
            f"| {gpu.name} | {gpu.memory / 1e9:.0f} GB | {gpu.bandwidth / 1e9:,.0f} GB/s | {gpu.peak / 1e12:.0f} TFLOPS "
            f"| {gpu.use:.0%} | {speed:,.0f} | {permits(model, gpu, asked)} | {gpu.price:.2f} |"
        )
    yield ""
    yield "| a restaurant with | prompt | sampled | GPU | prefill s | decode s | restaurants/s | $ for 1,000 |"
    yield "|---|---|---|---|---|---|---|---|"
    for load in LOADS:
        for gpu in gpus:
            prefill, decode, _, rate, cost = row(model, gpu, load, asked)
            yield (
                f"| {load.name} | {load.prompt:,.0f} | {load.sampled:.0f} | {gpu.name} | {prefill:.3f} | {decode:.3f} "
                f"| {rate:.2f} | {cost:.3f} |"
            )


def changed(gpus, field, pairs):
    """The GPUs with a field set from texts such as `L4=0.5`."""
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise SystemExit(f"error: `{pair}` is not of the form NAME=NUMBER") from None
        if name not in {gpu.name for gpu in gpus} or number <= 0:
            raise SystemExit(f"error: `{pair}` names no GPU of the table, or no number above zero")
        gpus = [replace(gpu, **{field: number}) if gpu.name == name else gpu for gpu in gpus]
    return gpus


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="append", default=[], metavar="GPU=USD", help="dollars an hour")
    parser.add_argument("--use", action="append", default=[], metavar="GPU=PART", help="part of the peak in a prefill")
    parser.add_argument("--sequences", type=int, default=32, help="sequences that decode together (32)")
    parser.add_argument("--cells", type=int, default=512, help="cells of a sequence, all of them its own (512)")
    parser.add_argument("--batch", type=int, default=512, help="tokens in a decode call (512)")
    parser.add_argument("--bits", type=float, default=8.5, help="bits of a weight: 16 for F16, 4.9 for Q4_K_M (8.5)")
    asked = parser.parse_args()
    if min(asked.sequences, asked.cells, asked.batch, asked.bits) <= 0:
        parser.error("numbers must be above zero")
    gpus = changed(changed(GPUS, "price", asked.price), "use", asked.use)
    for line in tables(Model(bits=asked.bits), gpus, asked):
        print(line)


if __name__ == "__main__":
    main()
