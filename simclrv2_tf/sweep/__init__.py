"""Sweeps: grids over options and seeds; each cell is an ordinary run in its own process.

`definition` reads the sweep, `cells` expands it into command lines, `earlier` finds other sweeps
that cells start from. `processes` runs cells in parallel, each on its part of the machine, see
`shares`. `gathering` reads their results, `statistics` computes means and paired differences, and
`results` and `figures` write them.
"""
