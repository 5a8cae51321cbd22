"""Commands that live in modules of their own; `meadow.cli` registers them."""
