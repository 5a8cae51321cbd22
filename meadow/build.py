"""``python -m meadow.build``: builds datasets from raw files. The same as ``meadow build``."""

from meadow.cli.app import main

if __name__ == "__main__":
    main(["build"])
