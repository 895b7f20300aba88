#!/bin/sh
# Written by `afenv export htcondor`; export again instead of editing.
set -e
mkdir -p gen
for file in /analysis/* /analysis/.[!.]*; do  # the code of the image
  if [ -e "$file" ] && [ ! -e "${file##*/}" ]; then ln -s "$file" . 2>/dev/null || :; fi
done
param_n="${1}"
total=$((1 + $param_n))
seq 1 "$total" > gen/numbers.txt
