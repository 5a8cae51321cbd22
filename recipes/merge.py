"""Merges an adapter into its base model: one folder of safetensors that any program for transformers loads.

::

    python recipes/merge.py --model runs/13b --output runs/13b-merged

Another place for the base model than the one that the adapter names, and weights of another type::

    python recipes/merge.py --model runs/13b --base /models/llama-13b --output runs/13b-merged --dtype float16

An adapter that was trained beside a base in 8 or 4 bits is merged into the base in full precision. It runs on the
processor and needs memory for the base model as it is stored: 26 GB for 13B in 16 bits. Tokenizer, prompt template,
run.json and card travel with the weights; `score_usmle.py` and `chat.py` take the folder as it is. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where the merge failed, or 2 where it was asked for wrongly."""
    parser = argparse.ArgumentParser(
        prog="merge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="the adapter's folder")
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="the merged model's folder; it must not exist",
    )
    parser.add_argument(
        "--base", type=Path, metavar="DIR", help="the base model's folder [the one that the adapter names]"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the merged weights [as the base has them]",
    )
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="let the base's weights be pickles, which can run any code",
    )
    asked = parser.parse_args(argv)

    from meadow import models
    from meadow.core.errors import Error
    from meadow.train import merging

    models.offline()
    adapter, output = asked.model.expanduser(), asked.output.expanduser()
    base = asked.base.expanduser() if asked.base else None
    # Everything that can be known before gigabytes are read.
    if problems := merging.check(adapter, output, base):
        print("error: " + "\n".join(problems), file=sys.stderr)
        return 2
    try:
        # Loads base and adapter, adds each weight in float32, compares answers, and writes weights, tokenizer,
        # template, run.json and card.
        merging.merge(
            adapter, output, base=base, dtype=asked.dtype, allow_pickle=asked.allow_pickle,
            progress=lambda message: print(f"meadow: {message}", file=sys.stderr, flush=True),
        )  # fmt: skip
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    print(f"meadow: done: {asked.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
