"""``python -m meadow COMMAND``."""

from meadow.cli.app import main

if __name__ == "__main__":
    main()
