#!/bin/bash
# One fit on two machines of a SLURM cluster, a process a GPU; the script is any that runs under
# torchrun. Every process reads the same data and builds the same estimator with distributed=True.
#SBATCH --job-name=sknoisy
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=4

srun torchrun \
  --nnodes "$SLURM_NNODES" \
  --nproc_per_node 8 \
  --rdzv_id "$SLURM_JOB_ID" \
  --rdzv_backend c10d \
  --rdzv_endpoint "$head_node:29500" \
  examples/several_processes.py
