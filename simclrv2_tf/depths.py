"""The depths of the ResNets, to be read without Keras."""

# Residual blocks of the four groups, by depth.
BLOCKS = {
    10: (1, 1, 1, 1),  # not in the paper
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
