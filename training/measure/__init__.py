"""Evaluation of looks: relit pictures and clips against the truth, with baselines and oracles.

In: looks, paired views, clips. Out: figures, tables and pictures.
May use `pairs`, `photos`, `report` and the ground; not `world`.
"""
