"""Shows what the BUILD files lack, or writes it: `python -m tests.build_files --write`, or `make build-files`."""

import difflib
import sys
from pathlib import Path

from absl import app, flags

from tests.build_files.checks import stale_build_files, unpinned_imports

WRITE = flags.DEFINE_bool("write", False, "Write the BUILD files instead of showing what would change.")
ROOT = Path(__file__).parents[2]


def main(_: list[str]) -> None:
    unpinned = unpinned_imports(ROOT)
    if unpinned:
        sys.exit("\n".join(unpinned))
    stale = stale_build_files(ROOT)
    for path, (now, wanted) in stale.items():
        name = str(path.relative_to(ROOT))
        if WRITE.value:
            path.write_text(wanted, encoding="utf-8") if wanted else path.unlink()
            print(f"{'wrote' if wanted else 'removed'} {name}")
        else:
            lines = difflib.unified_diff(now.splitlines(True), wanted.splitlines(True), name, f"{name} (wanted)")
            sys.stdout.writelines(lines)
    if stale and not WRITE.value:
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
