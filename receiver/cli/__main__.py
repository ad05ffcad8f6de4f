"""``python -m receiver.cli``: the same as the program ``receiver``."""

from __future__ import annotations

from receiver.cli import main

if __name__ == "__main__":
    main(prog_name="receiver")
