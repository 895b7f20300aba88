"""Running the steps of an analysis on this machine: a folder per run, Snakemake as the scheduler.

The parent process decides what is out of date and writes, for each step, a job (the runtime's command line
and what goes in and out), and a Snakefile; Snakemake starts ``launcher.py`` for each job, a program of the
standard library alone, which is ready within hundredths of a second; the parent gathers what they noted
into a record.
"""
