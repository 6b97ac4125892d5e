#!/usr/bin/env bash
# Train what the baseline in this folder is of, with seeds 0 and 1 unless others are given:
#   results/ci/train.sh FLOWBENCH FOLDER [SEED...]
# The seeds are trained side by side with a thread each. A run that diverges or fails a check is no reason to stop: the
# gate names it.
set -euo pipefail
flowbench=$1 folder=$2
shift 2
[ $# -gt 0 ] || set -- 0 1

train() {
  for flow in maf iaf realnvp; do
    "$flowbench" train "$flow" --data truth-gaussian --seed "$1" --threads 1 --out "$folder" \
      --set hidden=32,32 --set transforms=2 --set max_steps=1200 || [ $? -eq 1 ]
  done
}

trainings=()
for seed; do
  train "$seed" &
  trainings+=($!)
done
for training in "${trainings[@]}"; do
  wait "$training"
done
