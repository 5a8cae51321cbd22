"""Fine-tunes a LLaMA-type model of about 13 billion parameters on Meadow's datasets.

One GPU (24 GB; the base in 8 bits, adapters beside it)::

    python recipes/finetune_13b.py --model /models/llama-13b --method lora-8bit --data mixture_medalpaca --output runs/13b

Eight GPUs, adapters (each GPU holds the base) or all weights (FSDP2 shards weights, gradients and optimizer)::

    torchrun --nproc-per-node 8 recipes/finetune_13b.py --config recipes/configs/13b_lora.yaml --model /models/llama-13b --output runs/13b
    torchrun --nproc-per-node 8 recipes/finetune_13b.py --config recipes/configs/13b_full.yaml --model /models/llama-13b --output runs/13b
    accelerate launch --num_processes 8 recipes/finetune_13b.py --config recipes/configs/13b_full.yaml --model /models/llama-13b --output runs/13b

Slurm, two nodes of eight GPUs; a job that was killed goes on from its last checkpoint when it is sent again::

    sbatch --nodes 2 --ntasks-per-node 1 --gres gpu:8 --wrap 'srun torchrun --nnodes 2 --nproc-per-node 8 \\
        --rdzv-backend c10d --rdzv-endpoint $(scontrol show hostnames $SLURM_NODELIST | head -n 1):29500 \\
        recipes/finetune_13b.py --config recipes/configs/13b_full.yaml --model /models/llama-13b --output runs/13b'

One override, and what a run would do, without doing it::

    python recipes/finetune_13b.py --config recipes/configs/13b_lora_8bit.yaml --model /models/llama-13b --output runs/13b --learning-rate 1e-4
    python recipes/finetune_13b.py --config recipes/configs/13b_lora_8bit.yaml --model /models/llama-13b --dry-run

No GPU: ``--model tiny`` makes a small random model, to see everything work.

Values come from ``--preset paper`` (the published ones) or ``--preset modern``, then ``--config``, then the command
line; ``--help`` lists them, ``--dry-run`` says where each comes from. The effective batch is the same for any
number of GPUs. Nothing is downloaded, and nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from meadow import train

SIZE, RECIPE = "13b", "finetune_13b.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where the run failed, or 2 where the settings are wrong."""
    return train.command(run, argv, size=SIZE, recipe=RECIPE)


def run(settings: train.TrainSettings) -> None:
    """The recipe, from rows to a model folder with its record and card: copy it, and change what you like."""
    s = settings
    if s.dry_run:
        train.forecast(s)
        return
    # Where checkpoints and the model go: held against other runs. Full disks and memory are told in words.
    with train.output_folder(s):
        # Number type and sharding, for the GPUs that are there.
        place = train.choose_device(s)
        # The model's folder, its tokenizer with something to pad with, and the prompt template.
        base = train.open_base(s)
        # Rows: read, split by group, tokenised and cut. What is left out is counted, each row with its reason.
        rows = train.load_rows(s, base)
        # Which rows make which step: the same for any number of GPUs, and however rows are packed.
        plan, held = train.plan_steps(s, rows)
        # A run that was killed goes on from its last checkpoint, if that is of the same rows, model and settings.
        beginning = train.find_beginning(s, base, rows, plan)
        # settings.yaml, which repeats the run, and left_out.jsonl.
        train.write_settings(s, rows)
        # The weights: in float32 where they are trained, in 16, 8 or 4 bits where they stand still.
        model = train.open_model(s, base, place)
        if s.adapters:
            model = train.add_adapters(s, model, base)
        # transformers' Trainer: learning rate, schedule, early stopping and checkpoints are in the settings.
        trained = train.fit(s, model, base, rows, plan, held, place, beginning)
        # Weights or adapters, tokenizer and template.
        train.save(s, trained, base, place)
        # run.json, loss.svg and README.md: what the model was made of, how, and what came of it.
        train.write_record(s, trained, base, rows, plan, place, RECIPE)


if __name__ == "__main__":
    raise SystemExit(main())
