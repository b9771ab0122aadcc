"""The runner of this machine: as many parts at a time as it has cores, each on its share of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event

from mnist_bp.engines.parallel import usable_cores
from mnist_bp.training.part_training import PartData, load_part_data, put_into_store, train_part
from mnist_bp.training.parts import Part, PartContext, PartResult


class LocalRunner:
    """See `mnist_bp.training.parts.Runner`."""

    def run(self, parts: Sequence[Part], context: PartContext) -> Generator[PartResult, None, None]:
        """Train parts in threads of this process, which share one dataset; see `Runner.run`."""
        return train_parts(parts, load_part_data(context), context)


def train_parts(parts: Sequence[Part], data: PartData, context: PartContext) -> Generator[PartResult, None, None]:
    """Train parts in threads, once their dataset is loaded; see `Runner.run`."""
    put, cores = put_into_store(context), usable_cores()
    at_once = 1 if context.device == "cuda" else max(1, min(cores, len(parts)))
    threads, waiting, stop = max(1, cores // at_once), iter(parts), Event()
    with ThreadPoolExecutor(at_once) as pool:

        def start(count: int) -> set[Future[PartResult]]:
            few = islice(waiting, count)
            return {pool.submit(train_part, part, data, threads, put, stop.is_set) for part in few}

        running = start(at_once)
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                failed = [future for future in done if future.exception()]
                if failed:  # parts that end in the meantime are kept
                    stop.set()
                    done, running = done | wait(running).done, set()
                else:
                    running |= start(len(done))
                yield from (future.result() for future in done if not future.exception())
                if failed:
                    failed[0].result()
        finally:
            stop.set()
