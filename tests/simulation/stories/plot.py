"""What a plot is: who lies, when, and what else must hold in the end. One plot per file in `plots/`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.options import ALL_SHAPES, Shape, StoryOptions

if TYPE_CHECKING:
    from tests.simulation.stories.story import Story


class Plot:
    """Nobody lies. Plots say what differs."""

    shapes: ClassVar[tuple[Shape, ...]] = ALL_SHAPES
    """Kinds of groups that it is about."""
    fixed: ClassVar[dict[str, Any]] = {}
    """Options that are the same in all its runs."""
    liars: ClassVar[bool] = True
    """Whether some members are dishonest."""
    needs_standby: ClassVar[bool] = False
    """Whether an honest member has two homes in all its runs."""
    limit: ClassVar[bool] = False
    """It shows what the design cannot prevent: committed states may be lost in it."""

    def __init__(self, story: Story, random: Random) -> None:
        self.story, self.random = story, random
        self.options: StoryOptions = story.options

    def begin(self) -> None:
        """Before anything happens: cast roles, and put acts into the calendar."""

    def interlude(self) -> None:
        """Between the two phases: time may pass in which nobody is healed."""

    def end(self) -> None:
        """Everything is healed, and owners are about to end their groups."""

    def check(self) -> None:
        """What else must hold when all is over."""

    # ---------------------------------------------------------------------------------------------------------- helpers

    def at(self, part: float, act: Callable[[], None]) -> None:
        """Do this when so much of the first phase is over."""
        self.story.world.schedule(round(part * self.options.duration_ms * 1_000), act)

    def corrupt(self, role: type[Role]) -> None:
        """Give all liars this role."""
        for seat in self.options.liars:
            self.story.corrupt(self.story.members[seat], role)
