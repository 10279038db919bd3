"""Builds tables: a job file names steps over one input table, and running it gives the parts of a new table.

    document   YAML -> values with line numbers          spec    job file -> frozen, checked job
    plan       which steps in which order, then `write`  task    work named by its inputs, done once
    pieces     a part and the rows of it that are kept   run     steps one after the other -> JobResult
    steps/     one transformation per module             executors/   where tasks run

Between steps nothing is copied: `filter` and `dedup` store which rows they keep, `tokenize` stores tokens, and only the
final `write` orders the rows and cuts them into the shards of the new table. A job returns parts; committing them is
the caller's business.
"""
