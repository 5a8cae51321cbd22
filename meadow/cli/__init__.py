"""Commands that live in modules of their own; `meadow.cli.app` registers them."""
