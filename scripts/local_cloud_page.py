"""Writes the operations into docs/local-cloud.md from the code that serves them.

Run it after a change of what is served: `python scripts/local_cloud_page.py`. With `--check` it
only tells whether the page agrees.
"""

from __future__ import annotations

import sys
from pathlib import Path

from localcloud.app import LocalCloud
from localcloud.served import tables

PAGE = Path(__file__).parents[1] / "docs" / "local-cloud.md"
BEGIN = "<!-- begin: written by scripts/local_cloud_page.py -->"
END = "<!-- end -->"


def page() -> str:
    """The page as it should be."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n\n{tables(LocalCloud(port=0).operations())}\n{END}{after}"


def main() -> int:
    """Writes or checks the page; returns the exit code."""
    wanted = page()
    if PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f"{PAGE.name} is behind the code: run {Path(__file__).name}\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
