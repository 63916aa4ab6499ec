"""A run folder, from photos to look and report.

In: two folders of photos and a configuration. Out: a run folder, looks and a report.
May use every room but `commands`.
"""
