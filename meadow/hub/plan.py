"""What a push would change in a repository, worked out before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meadow.core.units import size_of
from meadow.hub.client import Kind, State
from meadow.hub.files import LocalFile


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a push brings to one repository.

    Attributes:
        repo: The repository.
        kind: What it holds.
        state: It as it is.
        private: Whether only some can read it.
        adds: New and changed files, by path.
        deletes: Files of Meadow's that are no longer.
        unchanged: Files that are there already.
        tags: Names for the commit.
        stays: What does not travel, and why.
        notes: What else there is to know.
        message: The commit's title.
        loads: The line that loads it.
        check: Raises where what lies here is no longer what was planned.
    """

    repo: str
    kind: Kind
    state: State
    private: bool
    adds: Mapping[str, LocalFile] = field(default_factory=dict)
    deletes: Sequence[str] = ()
    unchanged: int = 0
    tags: Sequence[str] = ()
    stays: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    message: str = ""
    loads: str = ""
    check: Callable[[], None] = field(default=lambda: None, repr=False)

    def landed(self, state: State) -> bool:
        """Whether a state holds all that this brings."""
        brought = all(file.same(state.files.get(path)) for path, file in self.adds.items())
        return brought and not any(path in state.files for path in self.deletes)

    def lines(self) -> Iterator[str]:
        """The plan in words: every path that travels, with its size, and everything that does not."""
        visible = "private" if self.private else "public"
        if not self.state.head:
            yield f"{self.repo}: a new {visible} {self.kind} repository"
        else:
            yield f"{self.repo}: a {visible} {self.kind} repository, at commit {self.state.head[:12]}"
        for path, file in sorted(self.adds.items()):
            yield f"  {'change' if path in self.state.files else 'add':6} {path}  {size_of(file.size)}"
        for path in sorted(self.deletes):
            yield f"  delete {path}"
        total = sum(file.size for file in self.adds.values())
        count = len(self.adds)
        yield f"  {count} file{'' if count == 1 else 's'}, {size_of(total)}; {self.unchanged} there already"
        for tag in self.tags:
            yield f"  tag    {tag}"
        for path, why in self.stays:
            yield f"  stays  {path}: {why}"
        for note in self.notes:
            yield f"  note   {note}"
