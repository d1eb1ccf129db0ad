"""What is true of all lessons: they are listed, they are run by continuous integration, and say the same every time."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from examples.replication import __main__ as lessons
from examples.replication.telling import WIDTH

ROOT = Path(__file__).parents[3]


def test_every_lesson_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lessons.main()
    told = capsys.readouterr().out
    assert all(f"python -m examples.replication.{name} " in told for name in lessons.LESSONS)
    assert f"for lesson in {' '.join(lessons.LESSONS)};" in (ROOT / ".ci/run").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", lessons.LESSONS)
def test_a_lesson_says_what_it_shows_and_on_what_and_the_same_every_time(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson = import_module(f"examples.replication.{name}")
    told = []
    for _ in range(2):
        lesson.main()
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert all(word in told[0] for word in ("\nProperty:", "\nAssumes:", "\nSource:", "\nSo: "))
    assert max(map(len, told[0].splitlines())) <= WIDTH
