"""Sweeps: grids over options and seeds, each cell an ordinary run in a process of its own.

`definition` is what was asked for, `cells` the command lines that it stands for, `earlier` other
sweeps that cells start from. `processes` runs cells, several at once on `shares` of the machine.
`gathering` reads what they have left, `statistics` makes means and paired differences of it, and
`results` and `figures` write them.
"""
