"""``python -m benchmarks [--rounds N]``: print the ratios as a table."""

from __future__ import annotations

import argparse
import tempfile

from benchmarks.embedded import Embedded
from benchmarks.rounds import compare

TARGETS = {"store_batch of 1,000": 2.0, "store": 3.0, "retrieve": 3.0}


def main() -> None:
    """Run all comparisons and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds: int = parser.parse_args().rounds
    print(f"{'':24}{'contestant':20}{'median us':>12}{'p99 us':>12}{'ratio':>8}{'target':>8}")
    with tempfile.TemporaryDirectory() as directory:
        embedded = Embedded(directory, rounds)
        for name, contestants in (
            ("store_batch of 1,000", embedded.batches()),
            ("store", embedded.stores()),
            ("retrieve", embedded.gets()),
        ):
            for position, result in enumerate(compare(contestants, rounds)):
                target = f"{TARGETS[name]:.1f}x" if position else ""
                print(
                    f"{name if position == 0 else '':24}{result.name:20}{result.median:12.1f}"
                    f"{result.p99:12.1f}{result.ratio:7.2f}x{target:>8}"
                )
        embedded.close()


if __name__ == "__main__":
    main()
