"""Computes slow things in a thread, and of many requests only the newest (`Newest`)."""

import asyncio
import time

PAUSE = 0.15  # seconds without a newer request before slow work begins
QUICK = 0.03  # seconds; work that took less begins at once


class Newest:
    """Of many requests the newest is answered: `newest(*state)` leads to show(draw(*state)) or failed(error).

    In a running event loop (a notebook, Voila), `draw` runs in a thread, one at a time, and `show` in the loop, which
    is never kept waiting. Where `draw` is slow, it begins after `pause` seconds without a newer request. In a script
    all of it happens at once."""

    def __init__(self, draw, show, failed, pause=PAUSE):
        self.draw, self.show, self.failed, self.pause, self.drawing = draw, show, failed, pause, asyncio.Lock()
        self.took = QUICK  # seconds, the last time

    def __call__(self, *state):
        self.newest = ticket = object()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            react, result = self._answer(state)
            return react(result)
        self.task = loop.create_task(self._follow(ticket, state))

    @property
    def slow(self):
        """Whether `draw` was slow the last time."""
        return self.took >= QUICK

    async def _follow(self, ticket, state):
        await asyncio.sleep(self.pause if self.slow else 0)
        async with self.drawing:
            if ticket is self.newest:
                react, result = await asyncio.to_thread(self._answer, state)
        if ticket is self.newest:
            try:
                react(result)
            except Exception as error:  # noqa: BLE001  a task of a loop fails without a word
                self.failed(error)

    def _answer(self, state):
        start = time.perf_counter()
        try:
            return self.show, self.draw(*state)  # what to call, with what
        except Exception as error:  # noqa: BLE001  anybody's teacher: the page says so, and the student goes on
            return self.failed, error
        finally:
            self.took = time.perf_counter() - start
