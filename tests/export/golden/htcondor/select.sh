#!/bin/sh
# Written by `afenv export htcondor`; export again instead of editing.
set -e
param_label="${1}"
param_loud="${2}"
export param_label param_loud
/bin/start 'a word' /bin/sh -e -c 'grep -v 3 gen/numbers.txt > kept.txt
cat afenv-data/events/events.txt afenv-data/many/a.txt afenv-data/many/deep/b.txt >> kept.txt
echo "$param_label" "is $param_label" >> kept.txt
if $param_loud; then echo loud {1..2} >> kept.txt; fi
mkdir -p plots/deep && echo plot > plots/deep/one'
