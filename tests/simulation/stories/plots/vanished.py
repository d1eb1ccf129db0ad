"""A member vanishes for good: one, or all but one; in a witnessed group a witness, or a member."""

from __future__ import annotations

from tests.simulation.stories.plot import Plot
from tests.simulation.stories.process import StoryProcess


class Vanished(Plot):
    """Nobody waits for it for ever, and who is left loses nothing."""

    def begin(self) -> None:
        gone: list[StoryProcess] = [self.story.members[seat] for seat in self.options.liars]
        if self.options.witnessed and self.options.step % 2:
            gone = list(self.story.witnesses[: self.options.size - 1])
        for process in gone:
            if isinstance(process, StoryProcess):
                process.is_honest = False
            self.at(self.random.uniform(0.05, 0.95), lambda process=process: self._vanish(process))  # type: ignore[misc]

    def _vanish(self, process: StoryProcess) -> None:
        if self.random.random() < 0.3 and process.alive:  # in the middle of what it does
            process.gone = True
            process.fuse = self.random.randint(1, 12)
            self.story.world.after(2_000_000, process.kill)
            return
        process.gone = True
        process.kill()
