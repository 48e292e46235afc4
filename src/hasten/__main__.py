"""``python -m hasten`` is the command ``hasten``, and results record it as that."""

import sys

from hasten.cli import run

if __name__ == "__main__":
    sys.argv[0] = "hasten"
    run()
