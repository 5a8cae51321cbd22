"""Fine-tunes a LLaMA-type model of about 7 billion parameters on Meadow's datasets.

One GPU (16 GB; the base in 8 bits, adapters beside it)::

    python recipes/finetune_7b.py --model /models/llama-7b --method lora-8bit --data mixture_medalpaca --output runs/7b

Eight GPUs, adapters (each GPU holds the base) or all weights (FSDP2 shards weights, gradients and optimizer)::

    torchrun --nproc-per-node 8 recipes/finetune_7b.py --config recipes/configs/7b_lora.yaml --model /models/llama-7b --output runs/7b
    torchrun --nproc-per-node 8 recipes/finetune_7b.py --config recipes/configs/7b_full.yaml --model /models/llama-7b --output runs/7b
    accelerate launch --num_processes 8 recipes/finetune_7b.py --config recipes/configs/7b_full.yaml --model /models/llama-7b --output runs/7b

Slurm, two nodes of eight GPUs; a job that was killed goes on from its last checkpoint when it is sent again::

    sbatch --nodes 2 --ntasks-per-node 1 --gres gpu:8 --wrap 'srun torchrun --nnodes 2 --nproc-per-node 8 \\
        --rdzv-backend c10d --rdzv-endpoint $(scontrol show hostnames $SLURM_NODELIST | head -n 1):29500 \\
        recipes/finetune_7b.py --config recipes/configs/7b_full.yaml --model /models/llama-7b --output runs/7b'

One override, and what a run would do, without doing it::

    python recipes/finetune_7b.py --config recipes/configs/7b_lora_8bit.yaml --model /models/llama-7b --output runs/7b --learning-rate 1e-4
    python recipes/finetune_7b.py --config recipes/configs/7b_lora_8bit.yaml --model /models/llama-7b --dry-run

No GPU: ``--model tiny`` makes a small random model, to see everything work.

Values come from ``--preset paper`` (the published ones) or ``--preset modern``, then ``--config``, then the command
line; ``--help`` lists them, ``--dry-run`` says where each comes from. The effective batch is the same for any
number of GPUs. Nothing is downloaded, and nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the recipe; returns 0, 1 where the run failed, or 2 where the settings are wrong."""
    from meadow.train import main as run

    return run(argv, size="7b", recipe="finetune_7b.py")


if __name__ == "__main__":
    raise SystemExit(main())
