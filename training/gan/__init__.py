"""Recipes for comparison with the flagship: unpaired translators with a critic.

In: content-paired photos. Out: recipes for `fit`.
May use `fit`, `pairs`, `photos` and the ground; not `relight`.
"""
