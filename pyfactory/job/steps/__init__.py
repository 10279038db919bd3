"""The transformations of a job, one per module: its parameters, its version number, its work.

`base` is what they share, `open` the list of them. A step's VERSION belongs to its output: the tests hold a literal
output of every version, and fail when the output changes and the number does not.
"""
