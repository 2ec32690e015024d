"""A process that writes from many threads until it is killed::

    python group_workers.py DIRECTORY DURABILITY THREADS

It prints a line for each write that was answered: the key and the number that is its value.
"""

from __future__ import annotations

import os
import sys
import threading

from place import Place


def main() -> None:
    directory, durability, threads = sys.argv[1:]
    with Place(directory).open(durability=durability) as memory:

        def write(thread: int) -> None:
            number = 0
            while True:
                # A new one, which is one statement; over another; and one that all write.
                for key in (f"t{thread}-{number}", f"t{thread}", f"shared{number % 3}"):
                    answer = memory.store(key, number, {"n": number} if number % 2 else None)
                    if not answer["success"]:
                        os._exit(1)
                    if not key.startswith("shared"):
                        os.write(1, f"{key} {number}\n".encode())
                number += 1

        workers = [threading.Thread(target=write, args=(n,)) for n in range(int(threads))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


if __name__ == "__main__":
    main()
