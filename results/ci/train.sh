#!/usr/bin/env bash
# Train what the baseline in this folder is of, with two seeds unless another number is given:
#   results/ci/train.sh FLOWBENCH FOLDER [SEEDS]
# A run that diverges or fails a check is no reason to stop: the gate names it.
set -euo pipefail
"$1" sweep maf iaf realnvp --data truth-gaussian --seeds "${3:-2}" --threads 1 --out "$2" \
  --set hidden=32,32 --set transforms=2 --set max_steps=1200 >/dev/null || [ $? -eq 1 ]
