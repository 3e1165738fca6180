"""What a person should see of a listing, collected while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from ensemble.errors import first_few


@dataclass
class Notes:
    """lines: one for each thing to say.  system: what operating systems left in the folders, told in one line."""

    lines: list[str] = field(default_factory=list)
    system: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Something else to say, once."""
        if line not in self.lines:
            self.lines.append(line)

    def all(self) -> list[str]:
        """Every line, the one on the systems' files last."""
        if not self.system:
            return list(self.lines)
        count = "1 file or folder" if len(self.system) == 1 else f"{len(self.system)} files and folders"
        return [*self.lines, f"{count} of operating systems passed over: {first_few(sorted(self.system))}"]
