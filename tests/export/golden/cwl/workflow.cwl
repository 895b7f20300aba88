# Written by `afenv export cwl`; export again instead of editing.
cwlVersion: v1.2
class: Workflow
label: A small analysis
inputs:
  data-events: Directory
  data-many: Directory
  'n':
    type: long
  label:
    type: string
  loud:
    type:
      type: enum
      symbols:
        - 'true'
        - 'false'
outputs:
  generate.numbers:
    type: File
    outputSource: generate/numbers
  select.kept:
    type: File
    outputSource: select/kept
  select.plots:
    type: Directory
    outputSource: select/plots
  count.n:
    type: File
    outputSource: count/n
steps:
  generate:
    run:
      class: CommandLineTool
      label: generate
      requirements:
        ResourceRequirement:
          coresMin: 2
          ramMin: 287
        ToolTimeLimit:
          timelimit: 600
      hints:
        DockerRequirement:
          dockerPull: registry.example.org/group/small@sha256:1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
      baseCommand:
        - /bin/sh
        - -c
        - |-
          set -e
          mkdir -p gen
          for file in /analysis/* /analysis/.[!.]*; do  # the code of the image
            if [ -e "$file" ] && [ ! -e "${file##*/}" ]; then ln -s "$file" . 2>/dev/null || :; fi
          done
          param_n="${1}"
          total=$((1 + $param_n))
          seq 1 "$total" > gen/numbers.txt
        - sh
      inputs:
        'n':
          type: long
          inputBinding:
            position: 1
      outputs:
        numbers:
          type: File
          outputBinding:
            glob: gen/numbers.txt
    in:
      'n': 'n'
    out:
      - numbers
  select:
    run:
      class: CommandLineTool
      label: select
      requirements:
        InitialWorkDirRequirement:
          listing:
            - entryname: gen/numbers.txt
              entry: $(inputs['input-0'])
            - entryname: afenv-data/events
              entry: $(inputs['data-events'])
            - entryname: afenv-data/many
              entry: $(inputs['data-many'])
      hints:
        DockerRequirement:
          dockerPull: registry.example.org/group/small@sha256:1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
      baseCommand:
        - /bin/sh
        - -c
        - |-
          set -e
          param_label="${1}"
          param_loud="${2}"
          export param_label param_loud
          /bin/start 'a word' /bin/sh -e -c 'grep -v 3 gen/numbers.txt > kept.txt
          cat afenv-data/events/events.txt afenv-data/many/a.txt afenv-data/many/deep/b.txt >> kept.txt
          echo "$param_label" "is $param_label" >> kept.txt
          if $param_loud; then echo loud {1..2} >> kept.txt; fi
          mkdir -p plots/deep && echo plot > plots/deep/one'
        - sh
      inputs:
        label:
          type: string
          inputBinding:
            position: 1
        loud:
          type:
            type: enum
            symbols:
              - 'true'
              - 'false'
          inputBinding:
            position: 2
        input-0: File
        data-events: Directory
        data-many: Directory
      outputs:
        kept:
          type: File
          outputBinding:
            glob: kept.txt
        plots:
          type: Directory
          outputBinding:
            glob: plots
    in:
      label: label
      loud: loud
      input-0: generate/numbers
      data-events: data-events
      data-many: data-many
    out:
      - kept
      - plots
  count:
    run:
      class: CommandLineTool
      label: count
      requirements:
        InitialWorkDirRequirement:
          listing:
            - entryname: kept.txt
              entry: $(inputs['input-0'])
            - entryname: plots
              entry: $(inputs['input-1'])
      hints:
        DockerRequirement:
          dockerPull: registry.example.org/group/small@sha256:1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f
      baseCommand:
        - /bin/sh
        - -c
        - |-
          set -e
          for file in /analysis/* /analysis/.[!.]*; do  # the code of the image
            if [ -e "$file" ] && [ ! -e "${file##*/}" ]; then ln -s "$file" . 2>/dev/null || :; fi
          done
          wc -l < kept.txt > n.txt
          cat plots/deep/one >> n.txt
        - sh
      inputs:
        input-0: File
        input-1: Directory
        after-generate: File
      outputs:
        'n':
          type: File
          outputBinding:
            glob: n.txt
    in:
      input-0: select/kept
      input-1: select/plots
      after-generate: generate/numbers
    out:
      - 'n'
