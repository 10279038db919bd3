"""Versions of data: commits, branches and tags over one operation log, with put-if-absent as the only lock."""
