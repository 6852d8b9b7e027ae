"""The tests of the explorer's script (`tools/explorer.test.mjs`) in node's own runner."""

import shutil
import subprocess
import sys
from pathlib import Path

from run_tests import SKIPPED

TESTS = Path(__file__).with_name("explorer.test.mjs")
OLDEST = 20  # of node, whose runner is no experiment


def main() -> int:
    node = shutil.which("node")
    if node is None:
        print("tests of the explorer's script not run: no node; on Debian: apt-get install nodejs")
        return SKIPPED
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        print(f"tests of the explorer's script not run: node is {version}, at least {OLDEST} is needed")
        return SKIPPED
    done = subprocess.run([node, "--test", str(TESTS)], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
