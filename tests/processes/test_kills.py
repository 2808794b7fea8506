"""A run of several stages, killed in its first and in its last: it ends as if never stopped."""

FOLDER = "label_fraction_0.5"
