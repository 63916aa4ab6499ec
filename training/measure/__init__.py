"""How good a look is: pictures and clips against the truth, beside what needs no learning.

In: looks, paired views, clips. Out: figures, tables and pictures.
May use `pairs`, `photos`, `report` and the ground; not `world`.
"""
